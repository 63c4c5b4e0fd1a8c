package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"example.com/authserver/internal/secret"
)

func TestSecrets_neverPrint(t *testing.T) {
	const canary = "hunter2hunter2"
	type holder struct {
		T secret.Text
		B secret.Bytes
		P *secret.Text
	}
	text := secret.NewText(canary)
	h := holder{T: text, B: secret.NewBytes([]byte(canary)), P: &text}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d", h, h, h, h, h, h.T, h.B)
	fmt.Fprintf(&out, "%v %+v %#v %s", h.T, h.B, h.T, h.B)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "h", h, "t", h.T, "b", h.B)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "h", h, "t", h.T, "b", h.B)
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	for _, spelling := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%v", []byte(canary))} {
		if strings.Contains(out.String(), spelling) {
			t.Fatalf("a secret was printed as %q in:\n%s", spelling, out.String())
		}
	}
}

func TestEqual_emptyProvesNothing(t *testing.T) {
	if secret.Equal(nil, nil) || secret.Equal([]byte{}, []byte{}) {
		t.Fatal("two empty secrets compare equal")
	}
	if !secret.Equal([]byte("a"), []byte("a")) || secret.Equal([]byte("a"), []byte("b")) || secret.Equal([]byte("a"), []byte("aa")) {
		t.Fatal("Equal is wrong")
	}
}

func TestMAC_labelsKeepUsesApart(t *testing.T) {
	key := secret.Random(32)
	a := secret.MAC(key, "one", []byte("x"))
	if a != secret.MAC(key, "one", []byte("x")) || a == secret.MAC(key, "two", []byte("x")) || a == secret.MAC(secret.Random(32), "one", []byte("x")) {
		t.Fatal("MAC does not depend on key and label alone")
	}
}
