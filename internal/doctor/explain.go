package doctor

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/jackc/pgx/v5/pgconn"
)

// oneLine is text without line breaks.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return strings.Join(lines, "; ")
}

// s3Said is the store's answer in few words, or why there is none.
func s3Said(err error) string {
	var resp *awshttp.ResponseError
	var api smithy.APIError
	var send *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &api) && errors.As(err, &resp):
		return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", resp.HTTPStatusCode(), api.ErrorCode(), api.ErrorMessage()), ": ")
	case errors.As(err, &send):
		return withoutURL(send).Error()
	}
	return err.Error()
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// refused reports whether the store knows who asks and does not let him. Of one
// object among many it says so by the code alone.
func refused(err error) bool {
	var resp *awshttp.ResponseError
	return s3Code(err) == codeDenied || errors.As(err, &resp) && (resp.HTTPStatusCode() == http.StatusForbidden || resp.HTTPStatusCode() == http.StatusUnauthorized)
}

// codeDenied is the code of a refusal.
const codeDenied = "AccessDenied"

// s3Code is the code of the store's answer, "" without one.
func s3Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// sqlState is the SQLSTATE of the server's refusal, "" without one.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// databaseSaid is PostgreSQL's answer in few words, or why there is none.
func databaseSaid(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Sprintf("%s (SQLSTATE %s)", pg.Message, pg.Code)
	}
	return err.Error()
}
