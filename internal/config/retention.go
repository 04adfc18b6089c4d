package config

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Automatic compaction looks ten times in what it keeps, so less than retentionMin would do nothing else; the longest is what
// a duration can hold, three lifetimes.
const (
	retentionMin      = 100 * time.Millisecond
	retentionHoursMax = int64(1<<63-1) / int64(time.Hour)
)

// parseRetention takes what --auto-compaction-retention may be: a number, or a duration. Nothing, and zero in any spelling,
// turns it off.
func parseRetention(s string) (string, error) {
	if s == "" {
		return "0", nil
	}
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		return strconv.FormatUint(n, 10), nil
	}
	d, err := parseDuration(s)
	switch {
	case err != nil:
		return "", errors.New(`must be a number or a duration such as "5m"`)
	case d == 0:
		return "0", nil
	}
	return d.String(), nil
}

// settle reads the retention as the mode says: a bare number counts hours, or revisions.
func (c *Compaction) settle() error {
	n, err := strconv.ParseInt(c.retention, 10, 64)
	number := err == nil
	switch {
	case c.byRevision && !number:
		return fmt.Errorf("--auto-compaction-mode=revision keeps a number of revisions, but --auto-compaction-retention is %s: "+
			"give a whole number such as 1000, or --auto-compaction-mode=periodic for a time", c.retention)
	case c.byRevision:
		c.Revisions = n
		return nil
	case number && n > retentionHoursMax:
		return fmt.Errorf("--auto-compaction-retention=%d hours is too long: give at most %d", n, retentionHoursMax)
	case number:
		c.Retention = time.Duration(n) * time.Hour
		return nil
	}
	if c.Retention, err = time.ParseDuration(c.retention); err != nil {
		return fmt.Errorf("config: read --auto-compaction-retention: %w", err)
	}
	if c.Retention < retentionMin {
		return fmt.Errorf("--auto-compaction-retention=%s is too short: give at least %v", c.retention, retentionMin)
	}
	return nil
}
