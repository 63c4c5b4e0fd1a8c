package knownfailures

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.com/authserver/test/prove/provetest"
)

// row is one known failure of the field: the advisories that are alike, what
// went wrong there, and either the tests that show that it does not happen
// here, or why the question does not arise yet.
type row struct {
	advisories, failure string
	tests               string // names, by commas
	notYet              string
}

const (
	noOAuth     = "there is no authorization endpoint and no code yet"
	noActions   = "no action, reset or mail tokens yet"
	noAssertion = "no assertions of clients are taken yet"
	noFactors   = "no second factor yet"
)

var rows = []row{
	{"CVE-2026-1035 (Keycloak)", "a rotation that checks first and marks later", "TestKnown_CVE_2026_1035_rotationRace", ""},
	{"CVE-2026-9802 (Keycloak)", "reuse detection lost at a restart", "TestKnown_CVE_2026_9802_reuseIsNoticedAfterARestart", ""},
	{"Keycloak #50999", "instants of whole seconds", "TestKnown_Keycloak_50999_rotationsWithinOneSecond", ""},
	{"Keycloak #51312", "a refresh races a revocation", "TestKnown_Keycloak_51312_refreshRacesLogout", ""},
	{"Keycloak #52666", "the state of a rotation on a transient object", "TestKnown_Keycloak_52666_theStateIsInTheRow", ""},
	{"Hydra #3604", "concurrent refreshes get 500", "TestKnown_Hydra_3604_contentionIsNoServerError", ""},
	{"CVE-2026-55672 (Zitadel)", "code and refresh token not bound to the client", "TestKnown_CVE_2026_55672_anotherClientsToken", ""},
	{"CVE-2026-16089 (Keycloak)", "a code with parts that the client can edit", "", noOAuth},
	{"CVE-2026-4282 (Keycloak)", "single-use things of different kinds in one store", "TestKnown_CVE_2026_4282_handlesOfAnotherKind, TestCrossUse_onlyTheDiagonalPasses", ""},
	{"CVE-2026-27840 (Zitadel)", "a truncated token is valid", "TestKnown_CVE_2026_27840_everyPrefixAndEveryBit", ""},
	{"CVE-2025-46815 (Zitadel), CVE-2026-37982 (Keycloak)", "an action token can be used again", "", noActions},
	{"CVE-2026-18963 (Keycloak)", "a step of a reset is skipped", "", noActions},
	{"CVE-2026-7507, CVE-2025-12390 (Keycloak), CVE-2024-28197 (Zitadel)", "session fixation, ids that outlive a logout", "TestKnown_CVE_2026_7507_idsChangeAtLogin", ""},
	{"CVE-2024-8883, CVE-2026-3872, -7504, -18211, CVE-2023-6927, CVE-2024-1132, -2419 (Keycloak)", "redirect URIs that nearly match", "", noOAuth},
	{"CVE-2025-4143 (workers-oauth-provider)", "redirect URI not checked", "", noOAuth},
	{"CVE-2024-23647 (authentik), CVE-2025-4144 (workers-oauth-provider)", "PKCE downgrade", "", noOAuth},
	{"CVE-2022-39222 (Dex)", "approval not bound to the browser", "", noOAuth},
	{"CVE-2020-15222 (fosite), CVE-2020-5300 (Hydra)", "jti of an assertion replayed", "", noAssertion},
	{"CVE-2020-15223 (fosite)", "an error of the store reported as a revocation", "TestKnown_CVE_2020_15223_aFailingStoreIsNoRevocation", ""},
	{"CVE-2020-15233, -15234 (fosite)", "redirect URIs: loopback, letter case", "", noOAuth},
	{"CVE-2026-16093, -11800 (Keycloak)", "policy from an unverified header", "TestKnown_CVE_2026_16093_policyFromAnUnverifiedHeader, TestAttack_spellingsOfAlgAtEveryDoor, TestAttack_forgedTokensAtEveryDoor", ""},
	{"CVE-2025-2559 (Keycloak)", "a replay cache that a far exp fills", "", noAssertion},
	{"CVE-2026-4634, -79651, -7307 (Keycloak)", "endless input fills memory", "TestKnown_CVE_2026_4634_endlessInput, TestServer_keepsNoNames", ""},
	{"CVE-2024-28180, -28122, CVE-2023-49290, GHSA-2c7c-3mj9-8fqh, CVE-2026-34986, CVE-2024-21664 (go-jose, jwx)", "encrypted tokens as bombs", "TestKnown_CVE_2024_28180_encryptedTokens", ""},
	{"CVE-2025-30204 (golang-jwt), CVE-2025-27144 (go-jose)", "memory by many dots", "TestKnown_CVE_2025_30204_aHeaderOfDots", ""},
	{"CVE-2024-51744 (golang-jwt)", "expiry hides a bad signature", "TestKnown_CVE_2024_51744_expiredHidesABadSignature", ""},
	{"CVE-2024-5798 (Vault)", "audience not matched properly", "TestKnown_CVE_2024_5798_audience", ""},
	{"CVE-2026-31813 (Supabase)", "an ID token of an attacker's issuer", "", "no login through other providers yet"},
	{"GHSA-3529-5m8x-rpv3 (Supabase), CVE-2025-64101, GHSA-93m4-mfpg-c3xf, CVE-2023-49097 (Zitadel)", "the public URL from a request's headers", "TestKnown_GHSA_3529_5m8x_rpv3_hostFromHeaders", ""},
	{"CVE-2025-61928 (better-auth)", "identity from the body", "TestKnown_CVE_2025_61928_identityNeverFromTheBody", ""},
	{"GHSA-xg6x-h9c9-2m83 (better-auth), CVE-2025-64103 (Zitadel), CVE-2024-45042 (Kratos)", "a second factor is passed by", "", noFactors},
	{"CVE-2026-45364 (better-auth)", "limits by the text of an IPv6 address", "TestKnown_CVE_2026_45364_spellingsOfOneAddress", ""},
	{"GHSA-cq3f-vc6p-68fh (better-auth)", "a device code that anybody can approve", "", "no device grant yet"},
	{"CVE-2025-64102, CVE-2024-32868, CVE-2023-47111 (Zitadel), CVE-2024-4629 (Keycloak)", "parallel guesses pass the limit together", "TestKnown_CVE_2025_64102_parallelGuesses", ""},
	{"CVE-2026-9798, -16103 (Keycloak)", "no lockout on the other way", "TestKnown_CVE_2026_9798_theOtherWayToThePassword", ""},
	{"CVE-2025-24806, CVE-2026-47203 (Authelia)", "a lockout for each spelling of a name", "TestKnown_CVE_2025_24806_spellingsOfOneName", ""},
	{"CVE-2024-41952, CVE-2026-23511 (Zitadel), CVE-2026-4633 (Keycloak)", "answers tell who has an account", "TestKnown_CVE_2024_41952_whoHasAnAccount", ""},
	{"CVE-2025-14559, CVE-2026-1609 (Keycloak), CVE-2025-53942, -64521 (authentik), CVE-2024-47000, -46999, -47060, CVE-2025-64717 (Zitadel)", "who is disabled still gets tokens", "TestKnown_CVE_2025_14559_disabledUser", ""},
	{"GHSA-7hgr-xvrr-xpw3 (nhost), GHSA-64w3-5q9m-68xf, GHSA-895x-rfqp-jh5c (Keycloak)", "sessions survive a change of password or policy", "TestKnown_GHSA_7hgr_xvrr_xpw3_sessionsAfterAPasswordChange", ""},
	{"CVE-2026-9705 (Keycloak)", "a registration token enables a disabled client", "", "no registration of clients yet"},
	{"CVE-2026-33504, -33503, -33505 (Ory)", "SQL by a forged pagination token", "TestKnown_CVE_2026_33504_placesInListsAreValues", ""},
	{"CVE-2026-33496, -33495 (Oathkeeper)", "one token's verdict for another", "TestKnown_CVE_2026_33496_oneTokensVerdictForAnother", ""},
	{"GHSA-7qjx-gp9h-65qj (Dex), CVE-2026-9094, -9097 (Casdoor)", "token exchange without checks", "", "no token exchange yet"},
	{"CVE-2026-33132, CVE-2025-64431, -27507, CVE-2026-55670 (Zitadel)", "tenants see each other (there are none here), ids come back", "TestKnown_CVE_2026_55670_idsAreNotReused", ""},
	{"CVE-2025-67494, CVE-2026-55671, CVE-2024-49753 (Zitadel)", "the server calls where it is told to", "TestKnown_CVE_2025_67494_fetchesGoWhereTheyWereTold, TestAttack_forgedTokensAtEveryDoor", ""},
	{"CVE-2025-67495, CVE-2026-29191, -29192 (Zitadel), CVE-2026-33525 (Authelia)", "scripts in pages", "TestKnown_CVE_2025_67495_noMarkupComesBack", ""},
	{"CVE-2026-34969 (nhost)", "a refresh token in a URL", "TestKnown_CVE_2026_34969_refreshTokenInAURL", ""},
	{"CVE-2024-23656 (Dex)", "TLS settings dropped", "TestKnown_CVE_2024_23656_tlsToTheDatabase", ""},
	{"chi: RealIP, RedirectSlashes", "addresses from headers, open redirects", "TestKnown_Chi_realIPAndRedirects", ""},
	{"node-oidc-provider", "no failure is known", "", "nothing to replay"},
	{"rauthy #1696", "a list: atomic claim, end of the family, fetches", "TestKnown_Rauthy_1696_reuseEndsTheWholeFamily, TestKnown_CVE_2026_1035_rotationRace, TestKnown_CVE_2025_67494_fetchesGoWhereTheyWereTold", ""},
}

var testName = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\)`)

// Every row says how it is shown or why not yet, and the list and the tests
// name each other.
func TestRows(t *testing.T) {
	there := map[string]bool{}
	for _, path := range sources(t) {
		for _, found := range testName.FindAllStringSubmatch(readFile(t, path), -1) {
			there[found[1]] = true
		}
	}
	shown, named := 0, map[string]bool{}
	for _, r := range rows {
		if (r.tests == "") == (r.notYet == "") || r.advisories == "" || r.failure == "" {
			t.Errorf("the row %q names tests or says why there are none, and not both", r.advisories)
		}
		if r.tests == "" {
			t.Logf("not applicable yet: %s: %s: %s", r.advisories, r.failure, r.notYet)
			continue
		}
		shown++
		for name := range strings.SplitSeq(r.tests, ", ") {
			named[name] = true
			if !there[name] {
				t.Errorf("%s: there is no test %s", r.advisories, name)
			}
		}
	}
	for name := range there {
		if strings.HasPrefix(name, "TestKnown_") && !named[name] {
			t.Errorf("no row names the test %s", name)
		}
	}
	provetest.Figure(t, "known failures of others, shown by a test", shown)
	provetest.Figure(t, "known failures of others, of what does not exist yet", len(rows)-shown)
}

// sources are the files with tests of the whole repository, nested modules too: a row
// names its test wherever that lives.
func sources(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git" || entry.Name() == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	return paths
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
