package obs

import (
	"io"
	"log/slog"
)

// Format is how log records are spelled.
type Format string

// The formats.
const (
	JSON Format = "json"
	Text Format = "text" // for people at a terminal
)

// NewLogger returns a logger to w. Each record is one Write of whole lines, so
// that several processes may share a file.
func NewLogger(w io.Writer, level slog.Leveler, format Format) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == Text {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
