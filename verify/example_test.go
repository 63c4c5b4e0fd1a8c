package verify_test

import (
	"fmt"
	"log"
	"net/http"

	"example.com/authserver/verify"
)

// A service that lets only bearers of good tokens in. It starts whether or not
// the auth server is up, and follows its keys.
func Example() {
	keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: "https://auth.example.com/.well-known/jwks.json"})
	if err != nil {
		log.Fatal(err)
	}
	v, err := verify.New(verify.Config{Issuer: "https://auth.example.com", Audience: "https://api.example.com", Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/orders", v.Middleware(verify.RequireScope("orders:read")(orders)))
	log.Fatal(http.ListenAndServe("127.0.0.1:9000", nil))
}

var orders = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "orders of %s\n", verify.FromContext(r.Context()).Subject)
})
