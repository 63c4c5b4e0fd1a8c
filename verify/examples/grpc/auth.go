// Package grpcauth shows package verify in front of a gRPC server: two
// interceptors that let only calls with a good token through. Copy it; it is an
// example, in a module of its own, so that gRPC is nobody's dependency.
package grpcauth

import (
	"context"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/authserver/verify"
)

// Guard lets calls through by their access token.
type Guard struct {
	// Verifier says which tokens are good.
	Verifier *verify.Verifier
	// Scopes has the scope that a method requires, by its full name, such as
	// "/orders.Orders/List". A method that is not listed needs a good token and
	// no particular scope.
	Scopes map[string]string
}

// Unary is the interceptor for calls with one answer. Handlers find the claims
// by verify.FromContext.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// Stream is the interceptor for streams. A token is checked when its stream
// begins; a stream that outlives its token is for the handler to end.
func (g *Guard) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, admitted{stream, ctx})
}

// admitted is a stream whose context has the claims.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (a admitted) Context() context.Context { return a.ctx }

func (g *Guard) admit(ctx context.Context, method string) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	// Bearer reads headers of HTTP, which is what gRPC's metadata is.
	raw, err := verify.Bearer(&http.Request{Header: http.Header{"Authorization": md.Get("authorization")}})
	if err != nil {
		return nil, g.refuse(err)
	}
	claims, err := g.Verifier.Verify(ctx, raw)
	if err != nil {
		return nil, g.refuse(err)
	}
	if scope := g.Scopes[method]; scope != "" && !claims.HasScope(scope) {
		return nil, status.Errorf(codes.PermissionDenied, "the token lacks the scope %s", scope)
	}
	return verify.NewContext(ctx, claims), nil
}

// refuse turns an error of verify into a status. What is trouble and no verdict
// is Unavailable: clients try that again, and keep their token. The details
// stay here, they would name our expectations to whoever probes.
func (g *Guard) refuse(err error) error {
	switch code, _ := g.Verifier.Challenge(err); code {
	case http.StatusServiceUnavailable:
		return status.Error(codes.Unavailable, "tokens cannot be verified at the moment")
	default:
		return status.Error(codes.Unauthenticated, "a good bearer token is required")
	}
}
