// Package openapi receives what openapi-gen writes (generate.sh); nothing of it is checked in.
package openapi
