package contracttest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/contracttest"
	"example.com/authserver/internal/httpd/wire"
)

func contract(t *testing.T) *contracttest.Contract {
	t.Helper()
	c, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDocument_hasEveryCodeAndNoOther(t *testing.T) {
	var want []string
	for _, c := range fault.Codes() {
		want = append(want, string(c))
	}
	enum := contract(t).Codes()
	slices.Sort(want)
	slices.Sort(enum)
	if diff := cmp.Diff(want, enum); diff != "" {
		t.Errorf("the schema Code and fault.Codes differ (-codes +document):\n%s", diff)
	}
}

// The type of a problem points at components/examples/CODE.
func TestDocument_showsEachCodeAsItIsAnswered(t *testing.T) {
	examples := contract(t).Examples()
	if len(examples) != len(fault.Codes()) {
		t.Errorf("%d examples, want one for each of %d codes", len(examples), len(fault.Codes()))
	}
	for _, code := range fault.Codes() {
		example := examples[string(code)]
		if example["code"] != string(code) || fmt.Sprint(example["status"]) != fmt.Sprint(wire.StatusOf(code)) || example["title"] != wire.TitleOf(code) ||
			!strings.HasSuffix(fmt.Sprint(example["type"]), "/components/examples/"+string(code)) {
			t.Errorf("the example %s is %v; want status %d and title %q", code, example, wire.StatusOf(code), wire.TitleOf(code))
		}
		_, waits := example["retry_after"]
		if status := wire.StatusOf(code); waits != (status == 429 || status == 503) {
			t.Errorf("the example %s: retry_after is there: %v", code, waits)
		}
	}
}

// A checker that lets everything pass would make all the other tests say yes.
func TestCheck_noticesWhatIsWrong(t *testing.T) {
	const problem = `{"type":"x","title":"x","status":401,"code":"token_invalid","request_id":"0123456789"}`
	for name, x := range map[string]struct {
		method, path, body string
		status             int
		header             http.Header
		answer, want       string
	}{
		"an undocumented status":       {"GET", "/v1/me", "", 418, nil, "", "status is not supported"},
		"a member too few":             {"GET", "/v1/me", "", 200, http.Header{"Content-Type": {"application/json"}}, `{"id":"a","email":"a@b","roles":[]}`, "created_at"},
		"a member too many":            {"GET", "/", "", 200, http.Header{"Content-Type": {"application/problem+json"}}, `{}`, "Content-Type"},
		"an instant without millis":    {"GET", "/v1/me", "", 200, http.Header{"Content-Type": {"application/json"}}, `{"id":"a","email":"a@b","roles":[],"created_at":"2026-11-23T02:33:00Z"}`, "created_at"},
		"a 401 without challenge":      {"GET", "/v1/me", "", 401, http.Header{"Content-Type": {"application/problem+json"}}, problem, "WWW-Authenticate"},
		"a code that is none":          {"GET", "/v1/me", "", 401, http.Header{"Content-Type": {"application/problem+json"}, "Www-Authenticate": {"Bearer x"}}, strings.Replace(problem, "token_invalid", "oops", 1), "code"},
		"a body where none belongs":    {"DELETE", "/v1/sessions", "", 204, nil, "x", "the document has none"},
		"a request that is not valid":  {"POST", "/v1/login", `{"email":"a@b","passwort":"x"}`, 200, http.Header{"Content-Type": {"application/json"}}, `{}`, "does not allow"},
		"an answer at a strange path":  {"GET", "/v2/me", "", 200, nil, "", "does not have"},
		"a 404 that is no problem doc": {"GET", "/v2/me", "", 404, http.Header{"Content-Type": {"text/plain"}}, "404", "Content-Type"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(x.method, x.path, strings.NewReader(x.body))
			if x.body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			header := x.header.Clone()
			if header == nil {
				header = http.Header{}
			}
			header.Set("X-Request-Id", "0123456789")
			err := contract(t).Check(contracttest.Exchange{
				Request: r, RequestBody: []byte(x.body),
				Response: &http.Response{StatusCode: x.status, Header: header}, ResponseBody: []byte(x.answer),
			})
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Fatalf("got %v, want something about %q", err, x.want)
			}
		})
	}
}
