package id_test

import (
	"encoding/json"
	"strings"
	"testing"

	"example.com/authserver/internal/id"
)

func TestParse_readsWhatStringWrites(t *testing.T) {
	for range 1000 {
		want := id.NewUser()
		got, err := id.Parse[struct{}](want.String())
		if err != nil {
			t.Fatal(err)
		}
		if got != id.Of[struct{}](want) || len(want.String()) != 36 {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func TestParse_refusesEveryOtherSpelling(t *testing.T) {
	good := id.NewSession().String()
	bad := []string{
		"", "x", good[:35], good + "0", strings.ReplaceAll(good, "-", ""), strings.ToUpper("abcdefab-abcd-4bcd-8bcd-abcdefabcdef"),
		"{" + good[1:35] + "}", strings.Replace(good, "-", "_", 1), "zzzzzzzz" + good[8:],
	}
	for _, s := range bad {
		if got, err := id.Parse[struct{}](s); err == nil || !got.IsZero() {
			t.Errorf("Parse(%q) = %s, %v; want an error and the zero id", s, got, err)
		}
	}
}

func TestNewFamily_beginsWithTheTagOfItsUser(t *testing.T) {
	u := id.NewUser()
	tag := id.Tag(u)
	for range 100 {
		f := id.NewFamily(u)
		if f[0] != tag[0] || f[1] != tag[1] {
			t.Fatalf("family %s does not begin with tag %x", f, tag)
		}
	}
	if id.NewFamily(u) == id.NewFamily(u) {
		t.Fatal("two families of one user have the same id")
	}
}

func TestOf_isTextInJSON(t *testing.T) {
	u := id.NewUser()
	b, err := json.Marshal(map[string]id.User{"id": u})
	if err != nil || string(b) != `{"id":"`+u.String()+`"}` {
		t.Fatalf("%s, %v", b, err)
	}
}
