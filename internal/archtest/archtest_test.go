package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheHouseKeepsItsLaw(t *testing.T) {
	module, dirs, imports, err := readTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	// A walk that found nothing would call any tree lawful.
	if !slices.Contains(dirs, "internal/id") || !slices.Contains(dirs, "internal/archtest") || len(imports) < 20 {
		t.Fatalf("want the tree of this module, found %d directories and %d imports", len(dirs), len(imports))
	}
	for _, breach := range judge(module, dirs, imports) {
		t.Error(breach)
	}
}

func TestJudge_brokenHouses(t *testing.T) {
	const m = "m.example/server"
	for _, c := range []struct {
		from string // directory; a trailing _test stands for a _test.go file there
		path string
		want string // in the reason; "" when the import is lawful
	}{
		// The kit.
		{"internal/id", m + "/internal/secret", "the kit imports nothing"},
		{"internal/limit", m + "/verify", "the kit imports nothing"},
		{"internal/limit", "net/http", "do not know that there is HTTP"},
		{"internal/limit", "github.com/jackc/pgx/v5", "only a store speaks SQL"},
		{"internal/secret", "log/slog", ""},
		{"internal/id", "crypto/rand", ""},

		// The domain, in its line.
		{"internal/session", m + "/internal/refresh", ""},
		{"internal/session", m + "/internal/fault", ""},
		{"internal/refresh", m + "/internal/session", "only to the left: audit | keys | revocation | token | refresh | session"},
		{"internal/account", m + "/internal/password", ""},
		{"internal/password", m + "/internal/account", "only to the left"},
		{"internal/audit", m + "/internal/admin", "only to the left"},
		{"internal/refresh", m + "/internal/refresh/inner", ""},
		{"internal/refresh/inner", m + "/internal/session", "only to the left"},
		{"internal/token", m + "/verify", ""},
		{"internal/keys", m + "/internal/store/postgres", "can be read and tested without HTTP"},
		{"internal/keys", m + "/internal/httpd/wire", "can be read and tested without HTTP"},
		{"internal/keys", m + "/internal/obs", "can be read and tested without HTTP"},
		{"internal/login", m + "/internal/config", "nobody knows config"},
		{"internal/refresh", "net/http", "do not know that there is HTTP"},
		{"internal/refresh", "net/http/cookiejar", "do not know that there is HTTP"},
		{"internal/refresh", "net/netip", ""},
		{"internal/refresh", "log/slog", "does not log"},
		{"internal/refresh", "log", "does not log"},
		{"internal/refresh", "database/sql", "only a store speaks SQL"},
		{"internal/audit", "github.com/jackc/pgx/v5/pgxpool", "only a store speaks SQL"},
		{"internal/audit", "modernc.org/sqlite", "only a store speaks SQL"},
		{"internal/session_test", m + "/internal/store/sqlite", ""},
		{"internal/session_test", "net/http", ""},

		// Stores.
		{"internal/store/postgres", m + "/internal/refresh", ""},
		{"internal/store/postgres", m + "/migrations", ""},
		{"internal/store/postgres", "github.com/jackc/pgx/v5", ""},
		{"internal/store/sqlite", "database/sql", ""},
		{"internal/store/postgres", m + "/internal/store/sqlite", "engines are strangers"},
		{"internal/store/postgres_test", m + "/internal/store/sqlite", "engines are strangers"},
		{"internal/store/sqlite", "github.com/jackc/pgx/v5", "engines are strangers"},
		{"internal/store/postgres", "modernc.org/sqlite", "engines are strangers"},
		{"internal/store/postgres", m + "/internal/app", "knows nothing above"},
		{"internal/store/postgres", m + "/internal/obs", "knows nothing above"},
		{"internal/store/postgres", m + "/internal/store/storetest", "a testkit does not ship"},
		{"internal/store/postgres_test", m + "/internal/store/storetest", ""},
		{"internal/store/storetest", m + "/internal/store/sqlite", "knows none"},
		{"internal/store/storetest", m + "/internal/store", ""},
		{"internal/store/sqlite", m + "/internal/store", ""},
		{"internal/store", m + "/internal/refresh", ""},
		{"internal/store", m + "/internal/store/sqlite", "knows none of them"},
		{"internal/store", "database/sql", "only a store speaks SQL"},
		{"internal/store/storetest", "pgregory.net/rapid", ""},

		// Doors.
		{"internal/httpd/authapi", m + "/internal/httpd/wire", ""},
		{"internal/httpd/authapi", m + "/internal/login", ""},
		{"internal/httpd/authapi", m + "/internal/httpd", "never the reverse"},
		{"internal/httpd/authapi", m + "/internal/httpd/oauthapi", "doors are strangers"},
		{"internal/httpd/authapi", m + "/internal/store/sqlite", "they do not persist"},
		{"internal/httpd/authapi", "database/sql", "only a store speaks SQL"},
		{"internal/httpd/authapi_test", m + "/internal/httpd", ""},
		{"internal/httpd/wire", m + "/internal/httpd", "so it knows neither"},
		{"internal/httpd/wire", m + "/internal/httpd/authapi", "so it knows neither"},
		{"internal/httpd", m + "/internal/httpd/authapi", ""},
		{"internal/httpd", m + "/api", ""},
		{"internal/httpd", m + "/internal/store/postgres", "never sees a store"},
		{"internal/httpd", m + "/internal/store", "never sees a store"},
		{"internal/httpd", m + "/internal/config", "nobody knows config"},

		// House-keeping and the attic.
		{"internal/obs", m + "/internal/refresh", ""},
		{"internal/jobs", m + "/internal/store/postgres", "knows no engine"},
		{"internal/config", m + "/internal/refresh", ""},
		{"internal/config", m + "/internal/app", "does not know the attic"},
		{"internal/app", m + "/internal/config", ""},
		{"internal/app", m + "/internal/store/postgres", ""},
		{"internal/app", m + "/internal/httpd", ""},
		{"internal/app", m + "/cmd/authserver", "everything but the commands"},
		{"internal/app", m + "/bench", "only what has a place"},
		{"cmd/authserver", m + "/internal/app", ""},
		{"cmd/authserver", m + "/internal/config", ""},
		{"cmd/authserver", m + "/internal/store/postgres", "in internal/app only"},
		{"cmd/refreshtorture", m + "/internal/refresh", "pointed at anybody's server"},
		{"cmd/refreshtorture", "github.com/alecthomas/kong", "pointed at anybody's server"},
		{"cmd/refreshtorture", "net/http", ""},

		// verify belongs to other people.
		{"verify", "github.com/golang-jwt/jwt/v5", ""},
		{"verify", "net/http", ""},
		{"verify", m + "/internal/keys", "nothing of this server"},
		{"verify_test", m + "/internal/keys", "nothing of this server"},
		{"verify", "golang.org/x/sync/singleflight", "std and golang-jwt only"},
		{"verify_test", "github.com/google/go-cmp/cmp", ""},
		{"verify_test", m + "/verify/verifytest", ""},
		{"verify/verifytest", m + "/verify", ""},
		{"verify/verifytest", "net/http/httptest", ""},
		{"verify/verifytest", m + "/internal/keys", "nothing of this server"},
		{"verify/verifytest", "github.com/google/go-cmp/cmp", "std and golang-jwt only"},
		{"verify", m + "/verify/verifytest", "a testkit does not ship"},
		{"api", m + "/internal/fault", "embedded files"},

		// Test tools and testkits.
		{"internal/refresh", "github.com/google/go-cmp/cmp", "test tools do not ship"},
		{"internal/refresh", "pgregory.net/rapid", "test tools do not ship"},
		{"cmd/authserver", "github.com/rogpeppe/go-internal/testscript", "test tools do not ship"},
		{"internal/httpd", "github.com/getkin/kin-openapi/openapi3", "test tools do not ship"},
		{"internal/httpd", "testing", "test tools do not ship"},
		{"internal/refresh_test", "pgregory.net/rapid", ""},
		{"internal/app/apptest", "testing", ""},
		{"internal/app/apptest", m + "/internal/store/postgres", ""},
		{"internal/app", m + "/internal/app/apptest", "a testkit does not ship"},
		{"internal/httpd", m + "/internal/app/apptest", "a testkit does not ship"},
		{"internal/httpd_test", m + "/internal/app/apptest", ""},

		// Outside the house nobody is judged.
		{"bench", m + "/internal/store/postgres", ""},
		{"scripts/rename", "testing", ""},
	} {
		t.Run(strings.ReplaceAll(c.from+" imports "+c.path, "/", "."), func(t *testing.T) {
			dir, test := strings.CutSuffix(c.from, "_test")
			got := judge(m, []string{dir}, []imported{{dir: dir, file: "x.go:3", path: c.path, test: test}})
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("want no complaint, got %q", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("want one complaint with %q, got %q", c.want, got)
			}
		})
	}
}

func TestJudge_aNewRoomAsksForItsPlace(t *testing.T) {
	for _, dir := range []string{"internal/helper", "internal/store/mysql", "internal/httpd/extra"} {
		got := judge("m.example/server", []string{dir}, nil)
		if len(got) != 1 || !strings.Contains(got[0], dir+" has no place") || !strings.Contains(got[0], "internal/archtest/law.go") {
			t.Errorf("%s: want to be told where to place it, got %q", dir, got)
		}
	}
	for _, dir := range []string{"internal/refresh", "internal/refresh/inner", "internal/httpd", "bench", "scripts/rename"} {
		if got := judge("m.example/server", []string{dir}, nil); len(got) != 0 {
			t.Errorf("%s: want no complaint, got %q", dir, got)
		}
	}
}

func TestLaw_everyFloorHasItsRule(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range rooms {
		if below[p.floor].reason == "" {
			t.Errorf("the floor of %s, %q, has no rule", p.dir, p.floor)
		}
		if seen[p.dir] {
			t.Errorf("%s has two places", p.dir)
		}
		seen[p.dir] = true
	}
}

func TestReadTree_findsEveryImportButNotThoseOfOtherModules(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                         "module m.example/server\n",
		"internal/keys/keys.go":          "package keys\n\nimport _ \"net/http\"\n",
		"internal/keys/keys_windows.go":  "//go:build windows\n\npackage keys\n\nimport _ \"log\"\n",
		"internal/keys/keys_test.go":     "package keys_test\n\nimport _ \"testing\"\n",
		"internal/keys/testdata/skip.go": "package skip\n\nimport _ \"os\"\n",
		"tools/go.mod":                   "module m.example/server/tools\n",
		"tools/tool.go":                  "package tools\n\nimport _ \"os\"\n",
		"node_modules/x/x.go":            "package x\n\nimport _ \"os\"\n",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	module, dirs, imports, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if module != "m.example/server" || !slices.Equal(dirs, []string{"internal/keys"}) {
		t.Errorf("want m.example/server and internal/keys, got %s and %v", module, dirs)
	}
	want := []imported{
		{"internal/keys", "internal/keys/keys.go:3", "net/http", false},
		{"internal/keys", "internal/keys/keys_test.go:3", "testing", true},
		{"internal/keys", "internal/keys/keys_windows.go:5", "log", false},
	}
	if !slices.Equal(imports, want) {
		t.Errorf("want %v, got %v", want, imports)
	}
}
