package v2ctl

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const programText = `etcdctl with ETCDCTL_API=2 reads and changes the keys of the v2 API, on members that run with --enable-v2 and on
etcd 3.5 and older. Without ETCDCTL_API=2 it speaks the v3 API.`

func programHelp(w io.Writer, f *flags) {
	fmt.Fprintf(w, "%s\n\nUsage:\n  etcdctl [global flags] command [flags] [arguments...]\n\n", programText)
	listVerbs(w, "etcdctl", verbs())
	fmt.Fprintln(w, "\nGlobal flags:")
	listFlags(w, f)
	fmt.Fprintln(w, "\nETCDCTL_ENDPOINTS, ETCDCTL_CERT_FILE, ETCDCTL_KEY_FILE, ETCDCTL_CA_FILE and ETCDCTL_USERNAME stand for the flags of these names.")
}

func groupHelp(w io.Writer, path string, v verb) {
	fmt.Fprintf(w, "%s: %s\n\nUsage:\n  %s command [flags] [arguments...]\n\n", path, v.short, path)
	listVerbs(w, path, v.verbs)
}

func verbHelp(w io.Writer, path string, v verb, f *flags) {
	fmt.Fprintf(w, "%s: %s\n", path, v.short)
	if v.long != "" {
		fmt.Fprintf(w, "\n%s\n", v.long)
	}
	words := []string{path}
	if len(f.rows) > 0 {
		words = append(words, "[flags]")
	}
	if v.args != "" {
		words = append(words, v.args)
	}
	fmt.Fprintf(w, "\nUsage:\n  %s\n", strings.Join(words, " "))
	if len(f.rows) > 0 {
		fmt.Fprintln(w, "\nFlags:")
		listFlags(w, f)
	}
}

func listVerbs(out io.Writer, path string, all []verb) {
	fmt.Fprintln(out, "Commands:")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, v := range all {
		fmt.Fprintf(w, "  %s\t%s\n", v.name, v.short)
	}
	fmt.Fprintf(w, "  help\tshows the help of a command: %s help %s\n", path, all[0].name)
	_ = w.Flush() // an error of out is as little told as those of Fprint
}

func listFlags(out io.Writer, f *flags) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range f.rows {
		var forms []string
		for _, n := range r.names {
			form := "--" + n
			if len(n) == 1 {
				form = "-" + n
			}
			forms = append(forms, strings.TrimSpace(form+" "+r.value))
		}
		fmt.Fprintf(w, "  %s\t%s\n", strings.Join(forms, ", "), r.text)
	}
	_ = w.Flush()
}
