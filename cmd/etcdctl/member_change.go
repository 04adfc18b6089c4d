package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/cmd/etcdctl/output"
)

const (
	memberAddHelp = `Adds a member, which may then be started on an empty data directory. With -w simple it prints the variables to start it
with. Start it before the next change: until then it counts as a member that is down.`
	memberRemoveHelp  = `Removes a member for good. Its process stops by itself; its data directory is of no use any more.`
	memberUpdateHelp  = `Replaces the peer URLs of a member. Restart its process on the new ones afterwards.`
	memberPromoteHelp = `Gives a learner a vote, once it has caught up with the leader.`
)

func memberAddCommand(a *app) *cobra.Command {
	var urls string
	var learner bool
	cmd := &cobra.Command{
		Use:   "add <memberName> [options]",
		Short: "Adds a member to the cluster",
		Long:  memberAddHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) < 1:
				return fail(statusBadArgs, "member name not provided")
			case len(args) > 1:
				return fail(statusBadArgs, "too many arguments%s", meantURLs(args))
			case urls == "":
				return fail(statusBadArgs, "member peer urls not provided")
			}
			return a.ask(cmd, statusError, (*output.Added)(nil), func(ctx context.Context, c *call) (any, error) {
				add := c.MemberAdd
				if learner {
					add = c.MemberAddAsLearner
				}
				r, err := add(ctx, strings.Split(urls, ","))
				return &output.Added{Name: args[0], PeerURLs: urls, Response: (*pb.MemberAddResponse)(r)}, err
			})
		},
	}
	cmd.Flags().StringVar(&urls, "peer-urls", "", "peer URLs of the new member, separated by commas")
	cmd.Flags().BoolVar(&learner, "learner", false, "add it as a learner, which gets all data and has no vote")
	return cmd
}

// meantURLs asks whether arguments that look like URLs were meant as such.
func meantURLs(args []string) string {
	var b strings.Builder
	for _, arg := range args {
		if strings.HasPrefix(strings.ToLower(arg), "http") {
			b.WriteString(", did you mean --peer-urls=" + arg)
		}
	}
	return b.String()
}

// memberID reads the one argument of a verb.
func memberID(args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, fail(statusBadArgs, "member ID is not provided")
	}
	id, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return 0, fail(statusBadArgs, "bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

// changeMember is the whole of a verb that changes the member named by the one argument.
func changeMember(a *app, cmd *cobra.Command, id uint64, done string, change func(context.Context, *call) (*output.Changed, error)) error {
	return a.ask(cmd, statusError, (*output.Changed)(nil), func(ctx context.Context, c *call) (any, error) {
		r, err := change(ctx, c)
		if err != nil {
			return nil, err
		}
		r.ID, r.Done = id, done
		return r, nil
	})
}

func memberRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove <memberID>",
		Short: "Removes a member from the cluster",
		Long:  memberRemoveHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			return changeMember(a, cmd, id, "removed from", func(ctx context.Context, c *call) (*output.Changed, error) {
				r, err := c.MemberRemove(ctx, id)
				return &output.Changed{Response: (*pb.MemberRemoveResponse)(r)}, err
			})
		},
	}
}

func memberUpdateCommand(a *app) *cobra.Command {
	var urls string
	cmd := &cobra.Command{
		Use:   "update <memberID> [options]",
		Short: "Replaces the peer URLs of a member",
		Long:  memberUpdateHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			if urls == "" {
				return fail(statusBadArgs, "member peer urls not provided")
			}
			return changeMember(a, cmd, id, "updated in", func(ctx context.Context, c *call) (*output.Changed, error) {
				r, err := c.MemberUpdate(ctx, id, strings.Split(urls, ","))
				return &output.Changed{Response: (*pb.MemberUpdateResponse)(r)}, err
			})
		},
	}
	cmd.Flags().StringVar(&urls, "peer-urls", "", "the member's new peer URLs, separated by commas")
	return cmd
}

func memberPromoteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "promote <memberID>",
		Short: "Gives a learner a vote",
		Long:  memberPromoteHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			return changeMember(a, cmd, id, "promoted in", func(ctx context.Context, c *call) (*output.Changed, error) {
				r, err := c.MemberPromote(ctx, id)
				return &output.Changed{Response: (*pb.MemberPromoteResponse)(r)}, err
			})
		},
	}
}

// memberHint says what to do about a refused change of the members, "" for other errors.
func memberHint(err error) string {
	for known, hint := range map[error]string{
		rpctypes.ErrMemberBadURLs:          "a peer URL is http://HOST:PORT and nothing behind it; several are separated by commas, each once",
		rpctypes.ErrPeerURLExist:           "see who has it: etcdctl member list",
		rpctypes.ErrUnhealthy:              "a majority must have been connected for 5 s: etcdctl endpoint health --cluster",
		rpctypes.ErrMemberNotEnoughStarted: "start the members that were added before, or remove them: etcdctl member list",
		rpctypes.ErrMemberLearnerNotReady:  "see whether it runs and how far it is, then try again: etcdctl endpoint status --cluster",
		rpctypes.ErrTooManyLearners:        "promote or remove the learner that is there, or raise --max-learners on all members",
	} {
		if errors.Is(err, known) || err.Error() == known.Error() {
			return hint
		}
	}
	return ""
}
