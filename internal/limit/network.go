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

// District returns where a client is, as it may be kept for weeks: the address
// itself where it is of a private network, because there it names a machine
// and no person; otherwise the /24 of an IPv4 and the /48 of an IPv6 address.
// It is the zero prefix where the address is not known. It does not allocate.
func District(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	switch {
	case !addr.IsValid(), addr.IsPrivate(), addr.IsLoopback(), addr.IsLinkLocalUnicast():
	case addr.Is4():
		bits = 24
	default:
		bits = 48
	}
	p, _ := addr.Prefix(bits) // bits fit the address
	return p
}
