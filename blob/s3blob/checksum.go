package s3blob

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// withBodyChecksum runs a call whose body S3 wants a checksum of, with the one
// that the store is known to take: CRC32, the SDK's way, or MD5, the only one
// there was before. It learns from a refusal, for which stores have two codes.
func withBodyChecksum(mode ChecksumMode, call func(...func(*s3.Options)) error) error {
	asMD5 := s3.WithAPIOptions(md5Instead)
	if mode == ChecksumWhenRequired {
		return call(asMD5)
	}
	err := call()
	switch errorCode(err) {
	case codeMissingMD5, codeInvalidRequest:
		return call(asMD5)
	}
	return err
}

// md5Instead has a request carry Content-MD5 in place of a flexible checksum.
func md5Instead(stack *middleware.Stack) error {
	// Without its set-up the SDK's checksum step finds nothing to do.
	if _, err := stack.Initialize.Remove("AWSChecksum:SetupInputContext"); err != nil {
		return fmt.Errorf("leave out the flexible checksum: %w", err)
	}
	return smithyhttp.AddContentChecksumMiddleware(stack)
}
