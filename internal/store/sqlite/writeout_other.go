//go:build !linux

package sqlite

import (
	"errors"
	"os"
)

func writeOut(*os.File, int64, int64) error { return errors.ErrUnsupported }
