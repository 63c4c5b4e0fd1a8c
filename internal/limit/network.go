package limit

import "net/netip"

// Network returns the key under which requests from one place are counted:
// the IPv4 address, or the /64 of an IPv6 address, because one subscriber
// holds a whole /64. An IPv4-mapped address counts as the IPv4 one.
func Network(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return "unknown"
	}
	if addr.Is4() {
		return addr.String()
	}
	p, _ := addr.Prefix(64)
	return p.String()
}
