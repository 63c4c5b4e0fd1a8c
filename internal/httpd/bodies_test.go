package httpd_test

import (
	"strings"
	"testing"
)

func TestBodies_malformed(t *testing.T) {
	h := onOne(t)
	const secretWord = "s3cret-that-must-not-come-back"
	for name, c := range map[string]struct{ body, want string }{
		"empty":                  {"", "empty"},
		"white space":            {" \n", "not a JSON object"},
		"no JSON":                {"email=ada", "not valid JSON"},
		"half":                   {`{"email":"a`, "{email, password"},
		"an array":               {`["` + secretWord + `"]`, "not a JSON object"},
		"a string":               {`"` + secretWord + `"`, "not a JSON object"},
		"null":                   {`null`, "not a JSON object"},
		"an unknown member":      {`{"email":"a@b","password":"x","emial":"y"}`, `"emial"`},
		"a name of another case": {`{"Email":"a@b","password":"x"}`, `"Email"`},
		"a secret as a name":     {`{"` + secretWord + `":1}`, "unknown member"},
		"twice":                  {`{"email":"a@b","password":"x","email":"a@b"}`, `"email" twice`},
		"twice, escaped":         {`{"email":"a@b","password":"x","\u0065mail":"a@b"}`, `"email" twice`},
		"missing":                {`{"email":"a@b"}`, `"password" is missing`},
		"null for a required":    {`{"email":"a@b","password":null}`, `"password" is null; want a string`},
		"a number":               {`{"email":1,"password":"x"}`, `"email" is a number; want a string`},
		"a boolean":              {`{"email":true,"password":"x"}`, `"email" is a boolean`},
		"an object":              {`{"email":{},"password":"x"}`, `"email" is an object`},
		"an array inside":        {`{"email":["a@b"],"password":"x"}`, `"email" is an array`},
		"a trailing comma":       {`{"email":"a@b","password":"x",}`, "not valid JSON"},
		"trailing data":          {`{"email":"a@b","password":"x"}x`, "goes on"},
		"two objects":            {`{"email":"a@b","password":"x"}{}`, "goes on"},
		"a comment":              {`{"email":"a@b",/**/"password":"x"}`, "not valid JSON"},
		"no colon":               {`{"email" "a@b"}`, "not valid JSON"},
		"two colons":             {`{"email"::"a@b"}`, "not valid JSON"},
		"a name that is none":    {`{1:"a@b"}`, "not valid JSON"},
		"a byte order mark":      {"\xef\xbb\xbf" + `{"email":"a@b","password":"x"}`, "byte order mark"},
		"invalid UTF-8":          {`{"email":"a@b","password":"` + "\xff" + `"}`, "UTF-8"},
		"half a surrogate pair":  {`{"email":"a@b","password":"\ud800"}`, "surrogate"},
		"the other half":         {`{"email":"a@b","password":"\udc00\ud800"}`, "surrogate"},
		"a control character":    {"{\"email\":\"a@b\",\"password\":\"\n\"}", "not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.post("/v1/login", c.body).refused(400, "invalid_request")
			if !strings.Contains(p.Detail, c.want) {
				t.Errorf("the detail is %q, want something about %q", p.Detail, c.want)
			}
			if strings.Contains(p.Detail, secretWord) {
				t.Errorf("the detail %q repeats a secret", p.Detail)
			}
		})
	}
}

func TestBodies_wellFormed(t *testing.T) {
	h := onOne(t)
	for name, body := range map[string]string{
		"white space around": " \r\n{ \"email\" : \"a@b\" ,\t\"password\" : \"x\" } \n",
		"escapes":            `{"\u0065mail":"a\u0040b","password":"\ud83d\ude00\\ud800"}`,
		"a password of NUL":  `{"email":"a@b","password":"\u0000"}`,
	} {
		if a := h.post("/v1/login", body); a.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
}

func TestBodies_mediaTypes(t *testing.T) {
	h := onOne(t)
	const body = `{"email":"a@b","password":"x"}`
	set := func(media string) answer {
		return h.post("/v1/login", body, func(r *httpRequest) { r.Header.Set("Content-Type", media) })
	}
	for _, good := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"} {
		if a := set(good); a.StatusCode != 401 {
			t.Errorf("%s: %d %s", good, a.StatusCode, a.body)
		}
	}
	for _, bad := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=latin1", "application/jsonx", "application/problem+json", "application/json; charset"} {
		set(bad).refused(415, "unsupported_media_type")
	}
	h.post("/v1/login", body, header("Content-Encoding", "gzip")).refused(415, "unsupported_media_type")
	h.post("/v1/logout", fields{"refresh_token": "x"}, func(r *httpRequest) { r.Header.Set("Content-Type", "text/plain") }).refused(415, "unsupported_media_type")
}

func TestBodies_tooLarge(t *testing.T) {
	h := onOne(t)
	wrap := func(n int) string { return `{"email":"a@b","password":"` + strings.Repeat("x", n) + `"}` }
	const frame = len(`{"email":"a@b","password":""}`)
	if a := h.post("/v1/login", wrap(64<<10-frame)); a.StatusCode == 413 {
		t.Error("64 KiB are refused")
	}
	for name, n := range map[string]int{"a byte more": 64<<10 - frame + 1, "ten megabytes": 10 << 20} {
		for _, chunked := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				a := h.post("/v1/login", wrap(n), func(r *httpRequest) {
					if chunked {
						r.ContentLength = -1
					}
				})
				a.refused(413, "body_too_large")
				if !a.Close {
					t.Error("the connection stays open for the rest of the body")
				}
			})
		}
	}
	h.do("GET", "/.well-known/jwks.json", nil).is(200)
}
