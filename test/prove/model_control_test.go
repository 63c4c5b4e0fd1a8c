package prove

import (
	"testing"

	"github.com/anishathalye/porcupine"

	"example.com/authserver/internal/refresh"
)

// The check would find what it is there for: each of these histories holds one
// broken promise, and differs from a sound one by nothing else.
func TestModel_refusesWhatBreaksAPromise(t *testing.T) {
	own, stranger := refresh.SenderOf(device(1), ""), refresh.SenderOf(device(2), "")
	const second = int64(1e9)
	at := func(from int64, in input, out output) porcupine.Operation {
		in.span = span{from * second, from*second + second/2}
		until := in.span.until
		if out.unknown {
			until = never
		}
		return porcupine.Operation{Input: in, Output: out, Call: in.span.from, Return: until}
	}
	refreshed := func(from int64, g int32, key string, next int32) porcupine.Operation {
		return at(from, input{op: opRefresh, generation: g, sender: own, key: key}, output{generation: next})
	}
	refused := func(from int64, g int32, code string) porcupine.Operation {
		return at(from, input{op: opRefresh, generation: g, sender: own, key: "a-key-of-this-refresh"}, output{code: code})
	}
	login := at(0, input{op: opLogin, sender: own}, output{})
	lost := at(2, input{op: opRefresh, generation: 1, sender: own, key: "a-key-of-this-refresh"}, output{unknown: true})
	for _, c := range []struct {
		name          string
		sound, broken []porcupine.Operation
	}{
		{
			"a second successor of one token",
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 1, "", 2)},
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 1, "", 3)},
		},
		{
			"an acknowledged rotation is lost",
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 2, "", 3)},
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refused(4, 2, "refresh_invalid")},
		},
		{
			"an honest retry after a lost answer is refused",
			[]porcupine.Operation{login, lost, refreshed(4, 1, "a-key-of-this-refresh", 2)},
			[]porcupine.Operation{login, lost, refused(4, 1, "refresh_reused")},
		},
		{
			"an old token is answered",
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 2, "", 3), refused(6, 1, "refresh_reused")},
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 2, "", 3), refreshed(6, 1, "", 3)},
		},
		{
			"a family lives on after an old token came back",
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 2, "", 3), refused(6, 1, "refresh_reused"), refused(8, 3, "refresh_revoked")},
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(4, 2, "", 3), refused(6, 1, "refresh_reused"), refreshed(8, 3, "", 4)},
		},
		{
			"a refresh is answered after a logout was",
			[]porcupine.Operation{login, at(2, input{op: opLogout}, output{}), refused(4, 1, "refresh_revoked")},
			[]porcupine.Operation{login, at(2, input{op: opLogout}, output{}), refreshed(4, 1, "", 2)},
		},
		{
			"a refresh is answered after a ban was",
			[]porcupine.Operation{login, at(2, input{op: opBan}, output{}), at(3, input{op: opUnban}, output{}), refused(4, 1, "refresh_revoked")},
			[]porcupine.Operation{login, at(2, input{op: opBan}, output{}), at(3, input{op: opUnban}, output{}), refreshed(4, 1, "", 2)},
		},
		{
			"an access token is believed after a logout was answered",
			[]porcupine.Operation{login, at(2, input{op: opLogout}, output{}), at(4, input{op: opLook}, output{code: "session_ended"})},
			[]porcupine.Operation{login, at(2, input{op: opLogout}, output{}), at(4, input{op: opLook}, output{})},
		},
		{
			"another session outlives a password change",
			[]porcupine.Operation{login, at(1, input{op: opLogin, sender: own}, output{family: 1}), at(2, input{op: opPassword, family: 1, next: 1}, output{}), refused(4, 1, "refresh_revoked")},
			[]porcupine.Operation{login, at(1, input{op: opLogin, sender: own}, output{family: 1}), at(2, input{op: opPassword, family: 1, next: 1}, output{}), refreshed(4, 1, "", 2)},
		},
		{
			"the former password opens a session",
			[]porcupine.Operation{login, at(2, input{op: opPassword, next: 1}, output{}), at(4, input{op: opLogin}, output{code: "invalid_credentials"})},
			[]porcupine.Operation{login, at(2, input{op: opPassword, next: 1}, output{}), at(4, input{op: opLogin}, output{family: 1})},
		},
		{
			"the retry window has no end",
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refused(200, 1, "refresh_reused")},
			[]porcupine.Operation{login, refreshed(2, 1, "", 2), refreshed(200, 1, "", 2)},
		},
		{
			"a thief in lock step with the owner goes on for ever",
			inLockStep(login, refreshed, at, stranger, "refresh_reused"),
			inLockStep(login, refreshed, at, stranger, ""),
		},
	} {
		model := rules{window: 90e9}.model()
		if !porcupine.CheckOperations(model, torn(c.sound)) {
			t.Errorf("%s: the sound history is refused:\n%s", c.name, spell(c.sound))
		}
		if porcupine.CheckOperations(model, torn(c.broken)) {
			t.Errorf("%s, and the check finds nothing:\n%s", c.name, spell(c.broken))
		}
	}
}

// inLockStep is an owner whose every predecessor is presented by a stranger; the
// third time the stranger gets the answer last.
func inLockStep(login porcupine.Operation, refreshed func(int64, int32, string, int32) porcupine.Operation,
	at func(int64, input, output) porcupine.Operation, stranger refresh.Sender, last string,
) []porcupine.Operation {
	ops := []porcupine.Operation{login}
	for i := range int64(3) {
		g := int32(i + 1)
		ops = append(ops, refreshed(2+4*i, g, "", g+1))
		out := output{generation: g + 1}
		if i == 2 && last != "" {
			out = output{code: last}
		}
		ops = append(ops, at(4+4*i, input{op: opRefresh, generation: g, sender: stranger}, out))
	}
	return ops
}
