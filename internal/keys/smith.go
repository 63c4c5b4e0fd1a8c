package keys

import (
	"crypto"
	"fmt"
	"strconv"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/secret"
)

// By says who acts, for the audit log.
type By struct {
	Actor     string // as audit.Event has it: "system" or "operator:<name>"
	RequestID string
}

// smith makes keys and seals them.
type smith struct {
	masters MasterKeys
	rsaBits int
}

// make fills in KID, Sealed and MasterID of a new row.
func (s smith) make(ring StoredRing, k StoredKey) (StoredKey, error) {
	master, err := s.masters.sealsWith(ring)
	if err != nil {
		return k, err
	}
	material := secret.Random(32)
	k.KID = fmt.Sprintf("refresh-%d", k.Number)
	if k.Purpose == Sign {
		key, err := generate(k.Algorithm, s.rsaBits)
		if err != nil {
			return k, fmt.Errorf("make key %s: %w", k.Name(), err)
		}
		jwk, err := newJWK(k.Algorithm, key.Public())
		if err != nil {
			return k, fmt.Errorf("make key %s: %w", k.Name(), err)
		}
		private, err := marshalPrivate(key)
		if err != nil {
			return k, fmt.Errorf("make key %s: %w", k.Name(), err)
		}
		k.KID, material = jwk.KID, secret.NewBytes(private)
	}
	if k.Sealed, err = seal(master, k.Purpose, k.KID, material); err != nil {
		return k, fmt.Errorf("seal key %s: %w", k.Name(), err)
	}
	k.MasterID = IDOf(master)
	return k, nil
}

// carryOut turns steps into one change of ring. Making RSA keys takes its
// time; clock tells how long, and new rows move by that much, so that no key's
// lead begins before others can see it.
func (s smith) carryOut(ring StoredRing, steps []Step, by By, clock func() time.Time) (Change, error) {
	began := clock()
	c := Change{IfRevision: ring.Revision}
	var whys []string // of c.Insert
	for _, step := range steps {
		switch step.Do {
		case Publish:
			k, err := s.make(ring, step.Key)
			if err != nil {
				return Change{}, err
			}
			c.Insert, whys = append(c.Insert, k), append(whys, step.Why)
		case Forget:
			c.Forget = append(c.Forget, step.Key.Name())
			c.Audit = append(c.Audit, by.event(audit.KeyDestroyed, step.Key, step.Why))
		case Destroy:
			c.Update = append(c.Update, step.Key)
			c.Audit = append(c.Audit, by.event(audit.KeyDestroyed, step.Key, step.Why))
		case Date:
			c.Update = append(c.Update, step.Key)
			c.Audit = append(c.Audit, by.event(audit.KeyActivated, step.Key, step.Why))
		case Extend:
			c.Update = append(c.Update, step.Key)
		}
	}
	late := (max(0, clock().Sub(began)) + time.Millisecond - 1).Truncate(time.Millisecond)
	for i := range c.Insert {
		k := &c.Insert[i]
		k.PublishedAt = k.PublishedAt.Add(late)
		active := k.ActiveAt.Add(late)
		k.ActiveAt = &active
		c.Audit = append(c.Audit, by.event(audit.KeyPublished, *k, whys[i]))
	}
	if ring.MasterID.IsZero() && len(c.Insert) > 0 {
		master := c.Insert[0].MasterID
		c.MasterID = &master
	}
	return c, nil
}

// event tells what happened to one key. The store sets its time.
func (b By) event(kind audit.Kind, k StoredKey, why string) audit.Event {
	details := map[string]string{
		"kid": k.KID, "purpose": string(k.Purpose), "algorithm": string(k.Algorithm), "number": strconv.Itoa(k.Number),
	}
	if why != "" {
		details["why"] = why
	}
	if k.ActiveAt != nil {
		details["active_at"] = instant(*k.ActiveAt)
	}
	return b.tell(kind, details)
}

func (b By) tell(kind audit.Kind, details map[string]string) audit.Event {
	return audit.Event{ID: id.NewEvent(), Kind: kind, Actor: b.Actor, RequestID: b.RequestID, Details: details}
}

// instant writes t as every answer of the server does.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// held is a key as a node holds it: opened.
type held struct {
	Life
	signer crypto.Signer // nil for root keys
	method *Method
	jwk    JWK
	root   secret.Bytes // empty for signing keys
}

// unlock opens a row and checks that what it holds is what it says.
func (m MasterKeys) unlock(l Life) (*held, error) {
	h := &held{Life: l}
	material, err := m.open(l.Key)
	if err != nil {
		return nil, err
	}
	if l.Key.Purpose == Refresh {
		if material.Len() != 32 {
			return nil, fmt.Errorf("key %s has %d bytes, want 32", l.Key.Name(), material.Len())
		}
		h.root = material
		return h, nil
	}
	if h.signer, err = parsePrivate(l.Key.Algorithm, material.Reveal()); err != nil {
		return nil, fmt.Errorf("read key %s: %w", l.Key.Name(), err)
	}
	if h.jwk, err = newJWK(l.Key.Algorithm, h.signer.Public()); err != nil {
		return nil, fmt.Errorf("read key %s: %w", l.Key.Name(), err)
	}
	if h.jwk.KID != l.Key.KID {
		return nil, fmt.Errorf("key %s: its row names kid %s, the key itself has the thumbprint %s", l.Key.Name(), l.Key.KID, h.jwk.KID)
	}
	h.method = MethodOf(l.Key.Algorithm)
	return h, nil
}
