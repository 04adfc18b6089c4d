package tlsconf

import (
	"crypto/tls"
	"fmt"
)

// CipherSuite finds a cipher suite by its name, as Go calls it or, for two of them, as older versions did. Weak ones are
// found too: whoever names one wants it.
func CipherSuite(name string) (uint16, error) {
	switch name {
	case "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305":
		name += "_SHA256"
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name {
			return s.ID, nil
		}
	}
	return 0, fmt.Errorf("unexpected TLS cipher suite %q", name)
}

// Version gives the number of TLS1.2 or TLS1.3, and 0 for the empty text.
func Version(name string) (uint16, error) {
	switch name {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", name)
}
