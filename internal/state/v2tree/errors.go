package v2tree

import "fmt"

// Code is one of v2's error codes.
type Code int

// The codes that v2 answers with. 110 comes from who asks for credentials, 2xx from who reads requests, 300 where no answer
// came of the log, 400 and 401 from who keeps the history of events.
const (
	KeyNotFound        Code = 100
	TestFailed         Code = 101
	NotFile            Code = 102
	NotDir             Code = 104
	NodeExist          Code = 105
	RootReadOnly       Code = 107
	DirNotEmpty        Code = 108
	Unauthorized       Code = 110
	PrevValueRequired  Code = 201
	TTLNaN             Code = 202
	IndexNaN           Code = 203
	InvalidField       Code = 209
	InvalidForm        Code = 210
	RefreshValue       Code = 211
	RefreshTTLRequired Code = 212
	RaftInternal       Code = 300
	IndexCleared       Code = 401
)

// messages are etcd's texts: clients show them, and scripts match on them.
var messages = map[Code]string{
	KeyNotFound: "Key not found", TestFailed: "Compare failed", NotFile: "Not a file", NotDir: "Not a directory",
	NodeExist: "Key already exists", RootReadOnly: "Root is read only", DirNotEmpty: "Directory not empty",
	Unauthorized:      "The request requires user authentication",
	PrevValueRequired: "PrevValue is Required in POST form", TTLNaN: "The given TTL in POST form is not a number",
	IndexNaN: "The given index in POST form is not a number", InvalidField: "Invalid field", InvalidForm: "Invalid POST form",
	RefreshValue: "Value provided on refresh", RefreshTTLRequired: "A TTL must be provided on refresh",
	RaftInternal: "Raft Internal Error", IndexCleared: "The event in requested index is outdated and cleared",
}

// Error is why an operation is refused, as its answer says it.
type Error struct {
	Code    Code   `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause,omitempty"`
	Index   uint64 `json:"index"`
}

// Refuse makes an error. The index is that of the state that was looked at, 0 where none was.
func Refuse(c Code, cause string, index uint64) *Error {
	return &Error{Code: c, Message: messages[c], Cause: cause, Index: index}
}

// Error is the text that v2's own errors have where they are wrapped in others.
func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Cause) }
