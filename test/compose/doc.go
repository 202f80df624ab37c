// Package compose tests docker-compose.yml and the Dockerfile: everything comes
// up healthy, the main job works through the published port, and everything
// goes away. It needs a container engine with docker-compose or docker compose
// and is run by name:
//
//	go test -tags compose ./test/compose
package compose
