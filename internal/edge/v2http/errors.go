package v2http

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"keelson/internal/server"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/v2tree"
)

// statuses are those of the codes that have one of their own; all others are bad requests.
var statuses = map[v2tree.Code]int{
	v2tree.KeyNotFound: http.StatusNotFound, v2tree.NotFile: http.StatusForbidden, v2tree.DirNotEmpty: http.StatusForbidden,
	v2tree.Unauthorized: http.StatusUnauthorized, v2tree.TestFailed: http.StatusPreconditionFailed,
	v2tree.NodeExist: http.StatusPreconditionFailed, v2tree.RaftInternal: http.StatusInternalServerError,
}

// unauthorized is what all are told who may not do what they ask, as in 3.4: it doesn't say whether the user exists.
func unauthorized() *v2tree.Error {
	return v2tree.Refuse(v2tree.Unauthorized, "Insufficient credentials", 0)
}

// denied tells whether an error is about who calls.
func denied(err error) bool {
	for _, is := range []error{auth.ErrUserEmpty, auth.ErrDenied, auth.ErrFailed, auth.ErrUserNotFound, auth.ErrNoPasswordUser, auth.ErrInvalidToken} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// refuse answers /v2/keys with an error.
func (e *Edge) refuse(w http.ResponseWriter, err error) {
	var v2 *v2tree.Error
	switch {
	case errors.As(err, &v2):
	case denied(err):
		v2 = unauthorized()
	default:
		e.options.Logger.Warn("v2 response error", zap.Error(err))
		v2 = v2tree.Refuse(v2tree.RaftInternal, err.Error(), 0)
	}
	body, err := json.Marshal(v2)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	status, ok := statuses[v2.Code]
	if !ok {
		status = http.StatusBadRequest
	}
	w.Header().Set("X-Etcd-Index", strconv.FormatUint(v2.Index, 10))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
}

// message answers what is not /v2/keys with an error.
func message(w http.ResponseWriter, status int, text string) {
	body, err := json.Marshal(struct {
		Message string `json:"message"`
	}{text})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// refuseMember answers /v2/members with the error of a change; id is its text in the request.
func (e roster) refuseMember(w http.ResponseWriter, err error, id string) {
	switch {
	case errors.Is(err, cluster.ErrIDExists), errors.Is(err, cluster.ErrPeerURLExists):
		message(w, http.StatusConflict, err.Error())
	case errors.Is(err, cluster.ErrIDRemoved):
		message(w, http.StatusGone, "Member permanently removed: "+id)
	case errors.Is(err, cluster.ErrIDNotFound):
		message(w, http.StatusNotFound, "No such member: "+id)
	case errors.Is(err, server.ErrBadPeerURLs):
		message(w, http.StatusBadRequest, err.Error())
	case denied(err):
		message(w, http.StatusUnauthorized, insufficient)
	default:
		e.options.Logger.Warn("unexpected v2 response error", zap.Error(err))
		message(w, http.StatusInternalServerError, "Internal Server Error")
	}
}

// insufficient is 3.4's text for who may not do something that is not about keys.
const insufficient = "Insufficient credentials"
