// Package release says which Keelson this is. The programs print it.
//
// The etcd that Keelson speaks as is named in one other place, version.Version of go.etcd.io/etcd/api/v3: whoever takes
// that module's messages in a new version speaks as that version.
package release

import (
	"fmt"
	"io"
	"runtime/debug"

	"go.etcd.io/etcd/api/v3/version"
)

// Version is Keelson's own version.
const Version = "0.1.0"

// Commit is the commit that the program was built from, in git's short form, as far as the build knew it.
func Commit() string {
	const short = 7
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= short {
				return s.Value[:short]
			}
		}
	}
	return "unknown (built outside of a repository)"
}

// Print writes what a tool's version command prints: the version of etcd whose tool it is, that of the API, and Keelson's.
func Print(w io.Writer, tool string) {
	fmt.Fprintln(w, tool, "version:", version.Version)
	fmt.Fprintln(w, "API version:", version.APIVersion)
	fmt.Fprintln(w, "Keelson", Version)
}
