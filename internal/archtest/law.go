// Package archtest owns the import law of this tree and the test that holds the
// tree to it. It does not own style, nor anything a linter can say better.
//
//	kit <- domain <- store, doors <- app <- cmd
//
// A new room is placed by one line in rooms; a rule is one line in the law of
// its floor, with its reason, because the reason is what the failing test says.
package archtest

import "strings"

// floor is where a room stands in the house.
type floor string

const (
	kit     floor = "kit"           // vocabulary and sharp tools
	domain  floor = "domain"        // the rules, free of HTTP and of SQL
	roof    floor = "roof"          // internal/store: what the attic asks of any engine
	store   floor = "store"         // one engine each
	suite   floor = "store suite"   // what every engine has to pass
	wire    floor = "wire"          // what doors and middleware share
	door    floor = "door"          // HTTP, cut by audience
	hall    floor = "hall"          // httpd, which mounts the doors
	keeping floor = "house-keeping" // jobs, metrics and logs, mail delivery
	config  floor = "config"        // one struct of settings
	attic   floor = "attic"         // app, where concrete meets interface
	command floor = "command"       // one short file per verb
	outside floor = "outside"       // a product that knows servers by HTTP only
	public  floor = "public"        // verify, which other people import
	embed   floor = "embed"         // one Go file that embeds files
	watch   floor = "watch"         // this package
)

// place is one room: a directory and everything below it.
type place struct {
	dir   string
	floor floor
}

// rooms is the plan of the house. The domain stands in one line, from left to
// right, and a room imports only what stands to its left: the order of these
// lines is the law. Of two entries that fit, the longer directory counts.
var rooms = []place{
	{"internal/id", kit},
	{"internal/secret", kit},
	{"internal/fault", kit},
	{"internal/limit", kit},
	{"internal/spell", kit},

	{"internal/audit", domain},
	{"internal/keys", domain},
	{"internal/revocation", domain},
	{"internal/token", domain},
	{"internal/refresh", domain},
	{"internal/session", domain},
	{"internal/password", domain},
	{"internal/account", domain},
	{"internal/mail", domain},
	{"internal/login", domain},
	{"internal/oauth", domain},
	{"internal/admin", domain},

	{"internal/store", roof},
	{"internal/store/postgres", store},
	{"internal/store/sqlite", store},
	{"internal/store/storetest", suite},

	{"internal/httpd/wire", wire},
	{"internal/httpd/authapi", door},
	{"internal/httpd/oauthapi", door},
	{"internal/httpd/adminapi", door},
	{"internal/httpd/pages", door},
	{"internal/httpd", hall},

	{"internal/jobs", keeping},
	{"internal/obs", keeping},
	{"internal/smtp", keeping},

	{"internal/config", config},
	{"internal/app", attic},
	{"internal/archtest", watch},

	{"cmd", command},
	{"cmd/refreshtorture", outside},
	{"verify", public},
	{"api", embed},
	{"migrations", embed},
}

// below says which other floors a floor may import, and why no others.
var below = map[floor]struct {
	floors []floor
	reason string
}{
	kit:     {nil, "the kit imports nothing of this module: every room stands on it"},
	domain:  {[]floor{kit, domain, public}, "a domain room knows the kit and the rooms to its left, so that it can be read and tested without HTTP and without a database"},
	roof:    {[]floor{kit, domain, public, embed}, "internal/store says what an engine owes and knows none of them"},
	store:   {[]floor{kit, domain, roof, public, embed}, "a store implements what the rooms ask for and knows nothing above them"},
	suite:   {[]floor{kit, domain, roof, public, embed}, "the common suite is handed its engine by that engine's test and knows none"},
	wire:    {[]floor{kit, domain, public, keeping}, "wire is what doors and middleware share, so it knows neither"},
	door:    {[]floor{kit, domain, public, keeping, wire, embed}, "doors import wire and rooms: they do not persist, are strangers to each other, and httpd mounts them, never the reverse"},
	hall:    {[]floor{kit, domain, public, keeping, wire, door, embed}, "httpd mounts doors and never sees a store: what it needs comes as an interface"},
	keeping: {[]floor{kit, domain, roof, public, keeping}, "house-keeping implements what rooms ask for and knows no engine, door or setting"},
	config:  {[]floor{kit, domain, roof, store, public, keeping, wire, door, hall, embed}, "config knows each room's Policy; it does not know the attic that reads it"},
	attic:   {[]floor{kit, domain, roof, store, public, keeping, wire, door, hall, config, embed}, "the attic builds the house and knows everything but the commands"},
	command: {[]floor{kit, domain, roof, public, keeping, config, attic, embed, command}, "a verb parses flags, calls a room and prints; concrete meets interface in internal/app only"},
	outside: {nil, "the torture kit is pointed at anybody's server: it knows this one from outside only, and is the standard library alone"},
	public:  {nil, "verify is imported by other people's services: it brings nothing of this server with it"},
	embed:   {nil, "this package holds embedded files and one Go file that names them"},
	watch:   {nil, "archtest reads the tree and does not run it"},
}

// ban keeps packages from outside this module away from floors. An entry of
// paths covers everything below it. Only shipped files are meant, not tests.
type ban struct {
	paths  []string
	exempt func(place) bool
	reason string
}

var (
	drivers = []string{"database/sql", "github.com/jackc/pgx", "modernc.org/sqlite", "github.com/pressly/goose"}
	tools   = []string{
		"testing", "net/http/httptest",
		"github.com/google/go-cmp", "pgregory.net/rapid", "github.com/rogpeppe/go-internal",
		"github.com/getkin/kin-openapi", "github.com/anishathalye/porcupine",
	}
)

var bans = []ban{
	{
		[]string{"net/http"},
		func(p place) bool { return p.floor != domain && p.floor != kit },
		"the rules do not know that there is HTTP: both doors, the commands and the jobs call them",
	},
	{
		[]string{"log", "log/slog"},
		func(p place) bool { return p.floor != domain },
		"a domain room returns outcomes and errors, and tells an Observer; it does not log, and what must not be printed it keeps in a type of internal/secret",
	},
	{
		drivers,
		func(p place) bool { return p.floor == store || p.floor == suite },
		"only a store speaks SQL",
	},
	{
		[]string{"modernc.org/sqlite"},
		func(p place) bool { return p.dir != "internal/store/postgres" },
		"engines are strangers to each other",
	},
	{
		[]string{"github.com/jackc/pgx"},
		func(p place) bool { return p.dir != "internal/store/sqlite" },
		"engines are strangers to each other",
	},
}

const (
	toolsReason  = "test tools do not ship: only _test.go files and packages whose name ends in test import them"
	verifyReason = "verify is std and golang-jwt only, so that a service which imports it takes on one dependency"
	strangers    = "engines are strangers to each other, in their tests too: what both must do stands in internal/store/storetest"
	leftReason   = "domain rooms stand in one line and import only to the left"
	doorReason   = "doors are strangers to each other: what two of them need stands in httpd/wire or in a room"
	kitTestKit   = "a testkit does not ship: only _test.go files and other testkits import it"
	configReason = "nobody knows config: a room gets its small Policy from internal/app"
)

const verifyMay = "github.com/golang-jwt/jwt/v5"

// under reports whether path is root or below it.
func under(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}
