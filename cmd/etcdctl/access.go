package main

import (
	"crypto/tls"
	"strings"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// access is how a cluster is reached: with TLS or without, and as whom.
type access struct {
	cacert, cert, key string
	insecureTransport bool
	skipVerify        bool
	// serverName, where it is set, is what certificates must carry in place of the endpoint's host.
	serverName string

	user, password, token string
	loggedIn              bool // user and password are settled
}

// bind adds the flags of the cluster that all verbs talk to.
func (x *access) bind(fs *pflag.FlagSet) {
	x.bindNamed(fs, "", "the servers")
	fs.BoolVar(&x.skipVerify, "insecure-skip-tls-verify", false, "do not verify the servers' certificates (for tests only)")
	fs.StringVar(&x.token, "auth-jwt-token", "", "JSON web token to use in place of --user and --password")
}

// bindNamed adds the flags that any cluster has, each under a prefix.
func (x *access) bindNamed(fs *pflag.FlagSet, prefix, servers string) {
	fs.StringVar(&x.cacert, prefix+"cacert", "", "trust "+servers+" whose certificate is signed by this bundle of CAs")
	fs.StringVar(&x.cert, prefix+"cert", "", "certificate to show to "+servers)
	fs.StringVar(&x.key, prefix+"key", "", "key of --"+prefix+"cert")
	fs.BoolVar(&x.insecureTransport, prefix+"insecure-transport", true, "talk without TLS to endpoints that are not https:// and where no certificate is named")
	fs.StringVar(&x.user, prefix+"user", "", "user name, or name:password; without a password it is asked for")
	fs.StringVar(&x.password, prefix+"password", "", "password of --"+prefix+"user")
}

// secret tells whether the value of a flag must not be shown.
func secret(flag string) bool {
	return flag == "user" || flag == "password" || flag == "auth-jwt-token"
}

// refuseEmpty fails on a file that was named as nothing, such as --cert=$CERT with no such variable: without TLS, which
// nobody meant, the call might even succeed.
func refuseEmpty(fs *pflag.FlagSet) error {
	for _, name := range []string{"cert", "key", "cacert"} {
		if f := fs.Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return fail(statusBadArgs, "empty string is passed to --%s option", name)
		}
	}
	return nil
}

// login settles user and password, by a prompt for the password where only a name is given. It comes before the first client.
func (x *access) login(p prompter, prompt string) error {
	if x.loggedIn || x.user == "" || x.token != "" {
		return nil
	}
	if x.password == "" {
		name, password, given := strings.Cut(x.user, ":")
		if !given {
			var err error
			if password, err = p.password(prompt); err != nil {
				return err
			}
		}
		x.user, x.password = name, password
	}
	x.loggedIn = true
	return nil
}

// config completes spec with how the cluster is reached. A token counts for more than a user.
func (x *access) config(spec *clientv3.ConfigSpec) (*clientv3.Config, error) {
	spec.Secure = &clientv3.SecureConfig{
		Cacert: x.cacert, Cert: x.cert, Key: x.key, InsecureTransport: x.insecureTransport, InsecureSkipVerify: x.skipVerify, ServerName: x.serverName,
	}
	switch {
	case x.token != "":
		spec.Auth = &clientv3.AuthConfig{Token: x.token}
	case x.user != "":
		spec.Auth = &clientv3.AuthConfig{Username: x.user, Password: x.password}
	}
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, &exitError{status: statusBadArgs, err: err, hint: x.fileHint()}
	}
	return cfg, nil
}

func (x *access) fileHint() string {
	if (x.cert == "") != (x.key == "") {
		return "a certificate needs its key: give both, or none where the server asks for none"
	}
	return "--cacert, --cert and --key name files in PEM format"
}

// tls gives how endpoints are connected that say nothing of TLS themselves; nil for without.
func (x *access) tls() *tls.Config {
	cfg, err := x.config(&clientv3.ConfigSpec{})
	if err != nil {
		return nil
	}
	return cfg.TLS
}
