package config

import "strings"

// An older row is a spelling of 3.4, 3.5 or 3.6 that --experimental-X for --X does not cover.
type older struct {
	flag, byDefault string
	// today answers the setting of today and its text; a flag "" drops the old one, of which the warning is told.
	today func(text string) (flag, value string)
	// later names the missing feature, as in Row.
	later, warning string
	kind
}

const experimental = "experimental-"

// retired says why nothing of v2's HTTP proxy is left to tune.
const retired = "it tuned the v2 proxy, which is gone; remove it"

func olders() []older {
	rows := []older{
		{flag: "experimental-enable-v2v3", byDefault: "", later: laterV2V3, kind: checked(parseText)},
		{flag: "proxy", byDefault: "off", kind: checked(parseProxy), warning: retired},
		{flag: "proxy-failure-wait", byDefault: "5000", kind: checked(parseSize), warning: retired},
		{flag: "proxy-refresh-interval", byDefault: "30000", kind: checked(parseSize), warning: retired},
		{flag: "proxy-dial-timeout", byDefault: "1000", kind: checked(parseSize), warning: retired},
		{flag: "proxy-write-timeout", byDefault: "5000", kind: checked(parseSize), warning: retired},
		{flag: "proxy-read-timeout", byDefault: "0", kind: checked(parseSize), warning: retired},
		{flag: "debug", byDefault: "false", kind: checked(parseBool), warning: "use --log-level=debug", today: func(text string) (string, string) {
			if on, _ := parseBool(text); on {
				return "log-level", "debug"
			}
			return "", ""
		}},
		{flag: "log-package-levels", byDefault: "", kind: checked(parseText), later: "a log level for each package (--log-level sets one for all)"},
	}
	for _, g := range gates() {
		text := "false"
		if g.byDefault {
			text = "true"
		}
		rows = append(rows, older{
			flag: experimental + g.older, byDefault: text, kind: checked(parseBool), warning: "use --feature-gates=" + g.name + "=true or =false",
			today: func(text string) (string, string) { return "feature-gates", g.name + "=" + text },
		})
	}
	return rows
}

// twin is the --experimental-X of a row that is called X today.
func twin(r Row) older {
	return older{
		flag: experimental + r.Flag, byDefault: r.Default, kind: r.kind, warning: "use --" + r.Flag,
		today: func(text string) (string, string) { return r.Flag, text },
	}
}

// parseProxy takes off alone. YAML reads a bare off as false.
func parseProxy(s string) (string, error) {
	if s == "false" {
		s = "off"
	}
	return oneOf("off")(strings.TrimSpace(s))
}
