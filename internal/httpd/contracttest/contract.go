// Package contracttest holds what tests send and get against api/openapi.yaml:
// every answer must be one that the document describes, and a request that was
// accepted must be one that it allows.
//
// It does not own the document, and it ships with nothing.
package contracttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"example.com/authserver/api"
)

// Contract is the loaded document. It is safe for concurrent use.
type Contract struct{ doc *openapi3.T }

var load = sync.OnceValues(func() (*Contract, error) {
	openapi3filter.RegisterBodyDecoder("application/jwk-set+json", openapi3filter.JSONBodyDecoder)
	plain := openapi3filter.RegisteredBodyDecoder("text/plain")
	openapi3filter.RegisterBodyDecoder("application/revocations+jwt", plain)
	openapi3filter.RegisterBodyDecoder("application/statuslist+jwt", plain)
	openapi3filter.RegisterBodyDecoder("text/event-stream", plain)
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("load openapi.yaml: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("openapi.yaml is not valid: %w", err)
	}
	return &Contract{doc}, nil
})

// Load reads and validates the document, its examples included.
func Load() (*Contract, error) { return load() }

// Operations returns what the document describes, as "METHOD /path".
func (c *Contract) Operations() []string {
	var list []string
	for path, item := range c.doc.Paths.Map() {
		for method := range item.Operations() {
			list = append(list, method+" "+path)
		}
	}
	return list
}

// Codes returns the values of the schema Code.
func (c *Contract) Codes() []string {
	var list []string
	for _, v := range c.doc.Components.Schemas["Code"].Value.Enum {
		list = append(list, fmt.Sprint(v))
	}
	return list
}

// Examples returns the problem documents that the types of problems point at,
// by their names.
func (c *Contract) Examples() map[string]map[string]any {
	examples := map[string]map[string]any{}
	for name, e := range c.doc.Components.Examples {
		examples[name], _ = e.Value.Value.(map[string]any)
	}
	return examples
}

// Exchange is one request and its answer, as they went over the wire.
type Exchange struct {
	Request      *http.Request
	RequestBody  []byte
	Response     *http.Response
	ResponseBody []byte
}

// Check returns what is wrong with an exchange.
func (c *Contract) Check(x Exchange) error {
	method := x.Request.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	route, params := c.find(method, x.Request.URL.Path)
	if route == nil || elsewhere(x.Response.StatusCode) && route.Operation.Responses.Status(x.Response.StatusCode) == nil {
		return c.checkElsewhere(x)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: x.Request.Clone(context.Background()), PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, SkipSettingDefaults: true,
			RejectWhenRequestBodyNotSpecified: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		},
	}
	input.Request.Body = io.NopCloser(bytes.NewReader(x.RequestBody))
	if x.Response.StatusCode < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			return fmt.Errorf("the server accepted a request that the document does not allow: %w", err)
		}
	}
	return c.checkResponse(x, input)
}

func (c *Contract) checkResponse(x Exchange, input *openapi3filter.RequestValidationInput) error {
	response := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: x.Response.StatusCode, Header: x.Response.Header, Options: input.Options,
	}
	response.SetBodyBytes(x.ResponseBody)
	if err := openapi3filter.ValidateResponse(context.Background(), response); err != nil {
		return err
	}
	if described := input.Route.Operation.Responses.Status(x.Response.StatusCode); described != nil &&
		len(described.Value.Content) == 0 && len(x.ResponseBody) > 0 {
		return fmt.Errorf("status %d came with a body of %d bytes; the document has none", x.Response.StatusCode, len(x.ResponseBody))
	}
	return nil
}

// elsewhere: any path may answer so, also one of the other listener's.
func elsewhere(status int) bool {
	return status == http.StatusNotFound || status == http.StatusMethodNotAllowed
}

// checkElsewhere is for paths and methods that the document does not have.
func (c *Contract) checkElsewhere(x Exchange) error {
	if x.Request.Method == http.MethodOptions && x.Response.StatusCode == http.StatusNoContent {
		return nil // a preflight
	}
	switch status := x.Response.StatusCode; {
	case elsewhere(status):
	case status == http.StatusForbidden, status == http.StatusTooManyRequests: // by middleware
		return nil
	default:
		return fmt.Errorf("status %d for %s, which the document does not have", x.Response.StatusCode, x.Request.Method)
	}
	described := c.doc.Components.Responses["Elsewhere"]
	return c.checkResponse(x, &openapi3filter.RequestValidationInput{
		Request: x.Request,
		Route: &routers.Route{Spec: c.doc, Operation: &openapi3.Operation{Responses: openapi3.NewResponses(
			openapi3.WithStatus(http.StatusNotFound, described), openapi3.WithStatus(http.StatusMethodNotAllowed, described))}},
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
}

// find matches a path against the templates of the document.
func (c *Contract) find(method, path string) (*routers.Route, map[string]string) {
	for template, item := range c.doc.Paths.Map() {
		params, ok := match(template, path)
		if op := item.GetOperation(method); ok && op != nil {
			return &routers.Route{Spec: c.doc, Path: template, PathItem: item, Method: method, Operation: op}, params
		}
	}
	return nil, nil
}

func match(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i := range want {
		if name, ok := strings.CutPrefix(want[i], "{"); ok && got[i] != "" {
			params[strings.TrimSuffix(name, "}")] = got[i]
		} else if want[i] != got[i] {
			return nil, false
		}
	}
	return params, true
}

// Transport checks every exchange of a client and tells Report what is wrong.
type Transport struct {
	Contract *Contract
	Base     http.RoundTripper
	Report   func(error)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, errors.Join(err, r.Body.Close())
		}
		r = r.Clone(r.Context())
		if len(sent) == 0 {
			r.Body = http.NoBody
		} else {
			r.Body = io.NopCloser(bytes.NewReader(sent))
		}
	}
	resp, err := t.Base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(got))
	if err := t.Contract.Check(Exchange{r, sent, resp, got}); err != nil {
		t.Report(fmt.Errorf("%s %s, status %d: %w", r.Method, r.URL.Path, resp.StatusCode, err))
	}
	return resp, nil
}
