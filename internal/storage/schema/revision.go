package schema

// Revision names one change: Main is the transaction's number, Sub the change's place in it.
type Revision struct{ Main, Sub int64 }

// Less orders revisions as the store does: by Main, then Sub.
func (r Revision) Less(o Revision) bool {
	return r.Main < o.Main || r.Main == o.Main && r.Sub < o.Sub
}
