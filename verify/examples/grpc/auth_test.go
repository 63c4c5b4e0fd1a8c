package grpcauth_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"example.com/authserver/verify"
	grpcauth "example.com/authserver/verify/examples/grpc"
	"example.com/authserver/verify/verifytest"
)

const audience = "https://orders.example.com"

// service is gRPC's own health service, which answers one call and streams
// another: enough of a service for this. It answers only if it finds claims.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (service) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if verify.FromContext(ctx) == nil {
		return nil, status.Error(codes.Internal, "no claims")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func (service) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	if verify.FromContext(stream.Context()) == nil {
		return status.Error(codes.Internal, "no claims")
	}
	return stream.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING})
}

// serve starts the service behind the guard, within this process.
func serve(t *testing.T, guard *grpcauth.Guard) grpc_health_v1.HealthClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary), grpc.StreamInterceptor(guard.Stream))
	grpc_health_v1.RegisterHealthServer(server, service{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("passthrough:///orders", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

// call makes both kinds of call with these authorization headers and returns
// the code, which has to be the same.
func call(t *testing.T, client grpc_health_v1.HealthClient, authorization ...string) codes.Code {
	t.Helper()
	ctx := t.Context()
	for _, header := range authorization {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
	}
	_, unary := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	stream, streamed := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if streamed == nil {
		_, streamed = stream.Recv()
	}
	if status.Code(unary) != status.Code(streamed) {
		t.Errorf("the call says %v, the stream %v", unary, streamed)
	}
	return status.Code(unary)
}

func TestGuard(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	guard := &grpcauth.Guard{Verifier: auth.Verifier(audience), Scopes: map[string]string{
		grpc_health_v1.Health_Check_FullMethodName: "orders:read", grpc_health_v1.Health_Watch_FullMethodName: "orders:read",
	}}
	client := serve(t, guard)
	bearer := func(token verifytest.Token) string { return "Bearer " + auth.Mint(token) }
	good := bearer(verifytest.Token{Audience: audience, Scope: "orders:read"})
	for name, tt := range map[string]struct {
		headers []string
		want    codes.Code
	}{
		"good":             {[]string{good}, codes.OK},
		"none":             {nil, codes.Unauthenticated},
		"two":              {[]string{good, good}, codes.Unauthenticated},
		"basic":            {[]string{"Basic YTpi"}, codes.Unauthenticated},
		"rubbish":          {[]string{"Bearer x.y.z"}, codes.Unauthenticated},
		"expired":          {[]string{bearer(verifytest.Token{Audience: audience, Scope: "orders:read", Expired: true})}, codes.Unauthenticated},
		"forged":           {[]string{bearer(verifytest.Token{Audience: audience, Scope: "orders:read", Forged: true})}, codes.Unauthenticated},
		"another audience": {[]string{bearer(verifytest.Token{Audience: "x", Scope: "orders:read"})}, codes.Unauthenticated},
		"scope missing":    {[]string{bearer(verifytest.Token{Audience: audience, Scope: "orders:write"})}, codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			if got := call(t, client, tt.headers...); got != tt.want {
				t.Errorf("code is %v, expected %v", got, tt.want)
			}
		})
	}
}

func TestGuard_aBannedUserIsUnauthenticated(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	client := serve(t, &grpcauth.Guard{Verifier: auth.Verifier(audience)})
	good := "Bearer " + auth.Mint(verifytest.Token{Audience: audience})
	if got := call(t, client, good); got != codes.OK {
		t.Fatalf("code is %v", got)
	}
	auth.RevokeUser("ada")
	if got := call(t, client, good); got != codes.Unauthenticated {
		t.Errorf("code is %v", got)
	}
}

// Trouble is not the token's fault: the client keeps it and tries again.
func TestGuard_withoutKeysItIsUnavailable(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	auth.Fail(verifytest.Unreachable)
	client := serve(t, &grpcauth.Guard{Verifier: auth.Verifier(audience)})
	if got := call(t, client, "Bearer "+auth.Mint(verifytest.Token{Audience: audience})); got != codes.Unavailable {
		t.Errorf("code is %v", got)
	}
}
