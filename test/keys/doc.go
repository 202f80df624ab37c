// Package keys tests what others see of a bucket: objects under the documented
// keys PREFIX/WORKSPACE/FILE, and nothing else. The SDK of Go is among the
// ordinary tests; boto3 and the AWS command line are run by name:
//
//	go test -tags aws ./test/keys
package keys
