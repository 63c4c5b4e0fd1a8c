package verify_test

import (
	"fmt"
	"log"
	"net/http"
	"time"

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

// A service that also knows at once who is banned, and that would rather refuse
// than not know.
func ExampleFollowRevocations() {
	const issuer = "https://auth.example.com"
	keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: issuer + "/.well-known/jwks.json", Service: "orders"})
	if err != nil {
		log.Fatal(err)
	}
	feed, err := verify.FollowRevocations(verify.FeedConfig{
		Issuer: issuer, Keys: keys, Service: "orders", WhenLost: verify.Refuse, Grace: time.Minute,
		OnFeed: func(s verify.FeedState) {
			if s.Lost() {
				log.Printf("nothing heard of revocations since %s: %v", s.LostSince, s.Err)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	v, err := verify.New(verify.Config{Issuer: issuer, Audience: "https://api.example.com", Keys: keys, Revocations: feed})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/orders", v.Middleware(orders))
	log.Fatal(http.ListenAndServe("127.0.0.1:9000", nil))
}

// Scopes and roles by route. Middleware is net/http's, so a chi router takes it
// as it is: r.Use(v.Middleware), r.With(verify.RequireScope("orders:write")).
func ExampleVerifier_Middleware() {
	var v *verify.Verifier // from verify.New
	mux := http.NewServeMux()
	mux.Handle("GET /orders", verify.RequireScope("orders:read")(orders))
	mux.Handle("POST /orders", verify.RequireScope("orders:write")(orders))
	mux.Handle("/admin/", verify.RequireRole("admin")(orders))
	_ = v.Middleware(mux)
}
