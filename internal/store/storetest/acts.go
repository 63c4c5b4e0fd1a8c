package storetest

import (
	"slices"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// act does one thing of a history that is no presentation: it ends something,
// or lets somebody be as before.
func (h *history) act(request string) {
	r, ctx, p := h.r, h.r.Context(), pick(h, h.users...)
	switch n := h.rng.IntN(100); {
	case n < 30:
		e := session.End{User: p.ID, Reason: pick(h, refresh.EndedByLogout, refresh.EndedByUser, refresh.EndedByOperator), Actor: audit.ByUser, RequestID: request}
		if len(p.families) > 0 {
			m := pick(h, p.families...)
			switch h.rng.IntN(3) {
			case 0:
				e.Session = m.row.Session
			case 1:
				e.Except = m.row.Session
			}
		}
		h.acts["end"]++
		n, err := r.Sessions().EndSessions(ctx, e)
		r.must(err)
		h.ended(request, e.Reason, n, h.of(p, func(m *holding) bool {
			return e.Session.IsZero() && m.row.Session != e.Except || m.row.Session == e.Session
		}))

	case n < 45:
		was := !p.DisabledAt.IsZero()
		h.acts["disable"]++
		n, err := r.Accounts().Disable(ctx, p.ID, "operator:x", request)
		r.must(err)
		if !was {
			p.DisabledAt = r.clock.Now()
		}
		h.reread(p)
		h.ended(request, refresh.EndedByBan, n, h.of(p, func(*holding) bool { return true }))

	case n < 60:
		h.acts["enable"]++
		for _, p := range h.users {
			if !p.DisabledAt.IsZero() {
				r.must(r.Accounts().Enable(ctx, p.ID, "operator:x", request))
				p.DisabledAt = time.Time{}
				h.reread(p)
			}
		}

	case n < 75:
		c := account.PasswordChange{User: p.ID, Version: p.CredentialVersion, Hash: someHash, Scheme: someScheme, Actor: audit.ByUser, RequestID: request}
		if len(p.families) > 0 && h.chance(50) {
			c.Keep = pick(h, p.families...).row.Session
		}
		h.acts["password"]++
		n, err := r.Accounts().ChangePassword(ctx, c)
		r.must(err)
		version := p.CredentialVersion
		h.reread(p)
		if p.CredentialVersion != version+1 {
			r.Errorf("a new password moved the credential version from %d to %d", version, p.CredentialVersion)
		}
		h.ended(request, refresh.EndedByPassword, n, h.of(p, func(m *holding) bool { return m.row.Session != c.Keep }))

	case n < 80:
		h.acts["floor"]++
		h.raise(request)

	case n < 84:
		if len(h.all) == 0 {
			return
		}
		h.acts["root key"]++
		number := pick(h, h.all...).row.HeadKey
		count, err := r.Sessions().CountUnderRoot(ctx, number)
		r.must(err)
		total := 0
		for {
			n, err := r.Sessions().EndUnderRoot(ctx, number, 5, "operator:x")
			r.must(err)
			if total += n; n == 0 {
				break
			}
		}
		if total != count {
			r.Errorf("%d families were said to end under root key %d, %d did", count, number, total)
		}
		h.ended("", refresh.EndedByRootKey, total, h.these(func(m *holding) bool { return m.row.HeadKey == number }))

	default:
		h.acts["role"]++
		role, granted := pick(h, "admin", "writer", "reader"), h.chance(60)
		r.must(r.Accounts().SetRole(ctx, p.ID, role, granted, "operator:x", request))
		p.Roles = slices.DeleteFunc(slices.Clone(p.Roles), func(have string) bool { return have == role })
		if granted {
			p.Roles = append(p.Roles, role)
			slices.Sort(p.Roles)
		}
		h.reread(p)
	}
}

// raise raises the floor above some of the older families, sometimes below
// where it is, and writes the ends or leaves that for later.
func (h *history) raise(request string) {
	r := h.r
	var births []time.Time
	for _, m := range h.all {
		births = append(births, m.row.BornAt)
	}
	if len(births) == 0 {
		return
	}
	slices.SortFunc(births, time.Time.Compare)
	before := births[h.rng.IntN(1+len(births)/4)].Add(time.Duration(h.rng.IntN(3)-1) * tick)
	floor, err := r.Sessions().RaiseFloor(r.Context(), before, "operator:x", request)
	r.must(err)
	if before.After(h.floor) {
		h.floor = before
	}
	if !floor.Equal(h.floor) {
		r.Errorf("raised to %s the floor is %s, want %s", before, floor, h.floor)
	}
	if h.chance(60) {
		return // every verdict reads it anyway
	}
	total := 0
	for {
		n, err := r.Sessions().EndBelowFloor(r.Context(), 7)
		r.must(err)
		if total += n; n == 0 {
			break
		}
		if n > 7 {
			r.Errorf("%d rows written where 7 were allowed", n)
		}
	}
	h.ended("", refresh.EndedByFloor, total, h.these(func(m *holding) bool { return m.row.BornAt.Before(h.floor) }))
}

// reread wants the store's account to be the model's, and takes over the
// credential version, which every act that raises it may raise by its own way.
func (h *history) reread(p *person) {
	u, err := h.r.Accounts().ByID(h.r.Context(), p.ID)
	h.r.must(err)
	if u.CredentialVersion < p.CredentialVersion {
		h.r.Errorf("the credential version sank from %d to %d", p.CredentialVersion, u.CredentialVersion)
	}
	if p.DisabledAt.IsZero() != u.DisabledAt.IsZero() || !slices.Equal(p.Roles, u.Roles) {
		h.r.Errorf("account (-model +store)\n%s", diff(p.User, u))
	}
	p.User = u
}

func (h *history) these(which func(*holding) bool) []*holding {
	var list []*holding
	for _, m := range h.all {
		if which(m) {
			list = append(list, m)
		}
	}
	return list
}

func (h *history) of(p *person, which func(*holding) bool) []*holding {
	return h.these(func(m *holding) bool { return m.owner == p && which(m) })
}

// ended wants that an act ended these families and no others, and said how
// many. What was dead by time already may be ended or left.
func (h *history) ended(request string, reason refresh.EndReason, said int, families []*holding) {
	r, now, n := h.r, h.r.clock.Now(), 0
	rows := make([]*refresh.Family, len(families))
	h.spread(len(families), func(i int) {
		row, _, err := r.Families().Family(r.Context(), families[i].row.ID)
		if err != nil {
			r.Errorf("read family: %v", err)
		}
		rows[i] = row
	})
	for i, m := range families {
		h.readAlong(m)
		row := rows[i]
		if row == nil {
			r.Errorf("family %s is gone", m.row.ID)
			continue
		}
		if m.row.EndedAt.IsZero() {
			overdue := !now.Before(m.row.IdleEnd(policy()))
			if overdue && row.EndedAt.IsZero() {
				continue
			}
			m.row.EndedAt, m.row.EndReason, m.row.EndRequest = now, reason, request
			n++
		}
		h.agree("the end by "+string(reason), m, *row)
	}
	if n != said {
		r.Errorf("%s: %d ended, %d were said to", reason, n, said)
	}
	if request == "" {
		return
	}
	logged, err := r.Audit().Events(r.Context(), audit.Filter{RequestID: request, Kind: audit.SessionEnded})
	r.must(err)
	if len(logged) != n {
		r.Errorf("%s: %d ends in the log, want one for each of %d sessions", reason, len(logged), n)
	}
}

// sweep deletes what ended long ago, in the store and in the model.
func (h *history) sweep() {
	p := policy()
	now := h.r.clock.Now()
	over := func(m *holding) bool {
		end := m.row.IdleEnd(p)
		if !m.row.EndedAt.IsZero() {
			end = m.row.EndedAt
		}
		return now.Sub(end) > 7*day
	}
	want := 0
	for _, m := range h.all {
		if over(m) {
			want++
		}
	}
	deleted, _ := h.r.sweepAll(50, p)
	if deleted != want {
		h.r.Errorf("%d families swept, want %d", deleted, want)
	}
	h.acts["swept"] += deleted
	var wrong atomic.Int32
	h.spread(len(h.all), func(i int) {
		row, _, err := h.r.Families().Family(h.r.Context(), h.all[i].row.ID)
		if (err != nil || (row == nil) != over(h.all[i])) && wrong.Add(1) <= 3 {
			h.r.Errorf("after the sweep family %s stands %t, want %t (%v)", h.all[i].row.ID, row != nil, !over(h.all[i]), err)
		}
	})
	h.all = slices.DeleteFunc(h.all, over)
	for _, p := range h.users {
		p.families = slices.DeleteFunc(p.families, over)
	}
}
