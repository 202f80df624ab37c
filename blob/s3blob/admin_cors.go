package s3blob

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
)

// corsMaxAge is how long browsers remember an answer to a preflight, an hour.
const corsMaxAge = 3600

// CORSOrigins reads the origins whose pages may use presigned requests of every
// kind, whoever set the rules: GET, PUT and HEAD with all headers. The answer is
// what the rules say, so it may have * in it. s3:GetBucketCORS.
func (a *Admin) CORSOrigins(ctx context.Context) ([]string, error) {
	rules, err := a.readCORS(ctx)
	if err != nil {
		return nil, err
	}
	var origins []string
	for _, r := range rules {
		if slices.Contains(r.AllowedHeaders, "*") && containsAll(r.AllowedMethods, corsMethods()) {
			origins = append(origins, r.AllowedOrigins...)
		}
	}
	slices.Sort(origins)
	return slices.Compact(origins), nil
}

func corsMethods() []string { return []string{http.MethodGet, http.MethodPut, http.MethodHead} }

func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// SetCORS lets pages of the origins use presigned requests, and read the ETag and
// checksum of the answers. It replaces the rule that it installed before and
// keeps all others; as with SetLifecycle nobody is excluded meanwhile.
// s3:GetBucketCORS, s3:PutBucketCORS.
func (a *Admin) SetCORS(ctx context.Context, origins ...string) error {
	if len(origins) == 0 {
		return fmt.Errorf("CORS of bucket %q: no origin named", a.bucket)
	}
	rules, err := a.readCORS(ctx)
	if err != nil {
		return err
	}
	id := a.ruleID()
	rules = slices.DeleteFunc(rules, func(r types.CORSRule) bool { return aws.ToString(r.ID) == id })
	rules = append(rules, types.CORSRule{
		ID:             aws.String(id),
		AllowedOrigins: origins,
		AllowedMethods: corsMethods(),
		AllowedHeaders: []string{"*"},
		ExposeHeaders:  []string{"ETag", "X-Amz-Checksum-Sha256"},
		MaxAgeSeconds:  aws.Int32(corsMaxAge),
	})
	err = withBodyChecksum(a.mode, func(options ...func(*s3.Options)) error {
		_, err := a.api.PutBucketCors(ctx, &s3.PutBucketCorsInput{
			Bucket:            aws.String(a.bucket),
			CORSConfiguration: &types.CORSConfiguration{CORSRules: rules},
		}, options...)
		return err
	})
	if err != nil {
		return a.errorf(err, "set CORS")
	}
	return nil
}

// readCORS has no rules for a bucket without a configuration.
func (a *Admin) readCORS(ctx context.Context) ([]types.CORSRule, error) {
	out, err := a.api.GetBucketCors(ctx, &s3.GetBucketCorsInput{Bucket: aws.String(a.bucket)})
	switch {
	case errorCode(err) == codeNoCORS:
		return nil, nil
	case err != nil:
		return nil, a.errorf(err, "read CORS")
	}
	return out.CORSRules, nil
}

// Preflight reports whether a page of the origin may send the request, by asking
// as a browser does. It tells the truth also where a store or a proxy answers
// browsers by other rules than the bucket's.
func Preflight(ctx context.Context, client *http.Client, r blob.SignedRequest, origin string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, r.URL, nil)
	if err != nil {
		return false, fmt.Errorf("preflight: %w", withoutURL(err))
	}
	var names []string
	for name := range maps.Keys(r.Header) {
		if name != "Content-Length" { // browsers set it by themselves
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	req.Header.Set("Origin", origin)
	req.Header.Set("Access-Control-Request-Method", r.Method)
	if len(names) > 0 {
		req.Header.Set("Access-Control-Request-Headers", strings.Join(names, ","))
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, fmt.Errorf("preflight: %w", withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // for the connection's sake
	return resp.StatusCode/100 == 2 && preflightAllows(resp.Header, r.Method, origin, names), nil
}

// preflightAllows applies the Fetch standard's rules for requests without
// credentials.
func preflightAllows(h http.Header, method, origin string, names []string) bool {
	if allowed := h.Get("Access-Control-Allow-Origin"); allowed != "*" && allowed != origin {
		return false
	}
	simple := method == http.MethodGet || method == http.MethodHead
	if !simple && !listed(h.Values("Access-Control-Allow-Methods"), method) {
		return false
	}
	allowed := h.Values("Access-Control-Allow-Headers")
	return !slices.ContainsFunc(names, func(n string) bool { return !listed(allowed, n) })
}

// listed reports whether comma-separated values have name, or a star.
func listed(values []string, name string) bool {
	for v := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, name) {
			return true
		}
	}
	return false
}
