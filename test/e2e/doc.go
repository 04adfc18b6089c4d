// Package e2e tests the programs as users run them: real processes on real disks and ports, and nothing but Keelson.
package e2e
