package app

import (
	"os"
	"path/filepath"
	"testing"

	"example.com/authserver/internal/config"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/secret"
)

// While a master key is being replaced, the new one is configured and the file
// in the data directory still holds the old one: whoever asks doctor must not be
// told that the new one is in that file.
func TestDoctor_saysWhereTheMasterKeyIs(t *testing.T) {
	for _, c := range []struct {
		name, configured string
		mode             os.FileMode // of the file; none without it
		state, where     string      // empty: the file
	}{
		{"in the file", "", 0o600, Fine, ""},
		{"configured", "configured", 0, Fine, "AUTHSERVER_MASTER_KEY"},
		{"configured beside a file", "configured", 0o600, Fine, "AUTHSERVER_MASTER_KEY"},
		{"in a file that others read", "", 0o644, Grave, ""},
		{"configured beside a file that others read", "configured", 0o644, Grave, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := &Installation{
				Config:  &config.Config{DataDir: t.TempDir(), MasterKey: secret.NewText(c.configured)},
				Masters: keys.MasterKeys{Current: secret.NewBytes(make([]byte, 32))},
			}
			path := filepath.Join(in.Config.DataDir, "master.key")
			if c.mode != 0 {
				if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, c.mode); err != nil { // whatever the umask
					t.Fatal(err)
				}
			}
			var x Examination
			x.masterKeyFile(in)
			want := keys.IDOf(in.Masters.Current).String() + " in " + path
			switch {
			case c.state == Grave:
				want = path + " has mode 0644"
			case c.where != "":
				want = keys.IDOf(in.Masters.Current).String() + " in " + c.where
			}
			if len(x.Remarks) != 1 || x.Remarks[0].State != c.state || x.Remarks[0].Seen != want {
				t.Errorf("said %+v, want %s: %s", x.Remarks, c.state, want)
			}
		})
	}
}
