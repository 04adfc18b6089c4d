package v2http

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"keelson/internal/state/auth"
)

const membersPath = "/v2/members"

// memberBytesMax bounds the body of a request about members: URLs.
const memberBytesMax = 64 << 10

// roster is the part of the edge that tells who the members are, and changes it.
type roster struct{ *Edge }

// member is a member as v2 writes it.
type member struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
}

func newMember(m *pb.Member) member {
	return member{strconv.FormatUint(m.ID, 16), m.Name, append([]string{}, m.PeerURLs...), append([]string{}, m.ClientURLs...)}
}

// members serves /v2/members.
func (e roster) members(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, "GET", "POST", "DELETE", "PUT") {
		return
	}
	if g := e.options.Guard; g != nil && !g.MayAdmin(r) {
		message(w, http.StatusUnauthorized, insufficient)
		return
	}
	e.identify(w)
	ctx, cancel := context.WithTimeout(r.Context(), e.options.Timeout)
	defer cancel()
	ctx, err := e.caller(ctx, r)
	if err == nil {
		err = e.member.May(ctx, auth.Login)
	}
	if err != nil {
		e.refuseMember(w, err, "")
		return
	}
	switch r.Method {
	case http.MethodGet:
		e.listMembers(ctx, w, r)
	case http.MethodPost:
		e.addMember(ctx, w, r)
	default:
		e.changeMember(ctx, w, r)
	}
}

// below is what of a request's path comes after /v2/members.
func below(r *http.Request) string {
	return strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, membersPath), "/")
}

func (e roster) listMembers(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	all, err := e.all(ctx)
	if err != nil {
		e.refuseMember(w, err, "")
		return
	}
	switch below(r) {
	case "":
		reply(w, http.StatusOK, map[string][]member{"members": all})
	case "leader":
		id := strconv.FormatUint(e.member.Leader(), 16)
		i := slices.IndexFunc(all, func(m member) bool { return m.ID == id })
		if i < 0 {
			message(w, http.StatusServiceUnavailable, "During election")
			return
		}
		reply(w, http.StatusOK, all[i])
	default:
		message(w, http.StatusNotFound, "Not found")
	}
}

// all is the members by ID, as this one knows them.
func (e roster) all(ctx context.Context) ([]member, error) {
	resp, err := e.member.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return nil, err
	}
	all := []member{}
	for _, m := range resp.Members {
		all = append(all, newMember(m))
	}
	return all, nil
}

func (e roster) addMember(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	urls, ok := peerURLs(w, r)
	if !ok {
		return
	}
	resp, err := e.member.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls})
	if err != nil {
		e.refuseMember(w, err, "")
		return
	}
	reply(w, http.StatusCreated, newMember(resp.Member))
}

// changeMember removes a member, or gives it other URLs.
func (e roster) changeMember(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	text := below(r)
	if text == "" {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		message(w, http.StatusNotFound, "No such member: "+text)
		return
	}
	if r.Method == http.MethodDelete {
		_, err = e.member.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: id})
	} else {
		urls, ok := peerURLs(w, r)
		if !ok {
			return
		}
		_, err = e.member.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: urls})
	}
	if err != nil {
		e.refuseMember(w, err, strconv.FormatUint(id, 16))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// peerURLs reads the body of a request that names them.
func peerURLs(w http.ResponseWriter, r *http.Request) ([]string, bool) {
	kind := r.Header.Get("Content-Type")
	if i := strings.IndexByte(kind, ';'); i >= 0 {
		kind = strings.TrimSpace(strings.ToLower(kind[:i]))
	}
	if kind != "application/json" {
		message(w, http.StatusUnsupportedMediaType, fmt.Sprintf("Bad Content-Type %s, accept application/json", kind))
		return nil, false
	}
	var q struct {
		PeerURLs []string `json:"peerURLs"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, memberBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	var urls types.URLs
	if err == nil {
		urls, err = types.NewURLs(q.PeerURLs)
	}
	if err != nil {
		message(w, http.StatusBadRequest, err.Error())
		return nil, false
	}
	return urls.StringSlice(), true
}

// reply answers with a line of JSON.
func reply(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a client that has gone needs no answer
}

// machines lists the client URLs of all members, as clients of old ask for them.
func (e roster) machines(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, "GET", "HEAD") {
		return
	}
	all, err := e.all(r.Context())
	if err != nil {
		e.refuseMember(w, err, "")
		return
	}
	var urls []string
	for _, m := range all {
		urls = append(urls, m.ClientURLs...)
	}
	slices.Sort(urls)
	_, _ = io.WriteString(w, strings.Join(urls, ", "))
}
