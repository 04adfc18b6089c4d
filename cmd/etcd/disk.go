//go:build !faultvfs

package main

import "keelson/internal/kit/vfs"

// disk is the machine's own. Built with the tag faultvfs it is one that fails on demand.
func disk() vfs.FS { return vfs.OS }
