// A server for the lab: HTTP/1.1 over plain sockets, with what it does on a stop signal set by a file.
//
//	server CONFIG.json                 serve as configured
//	server CONFIG.json COMMAND ARG...  wait for the start-up time, then become COMMAND
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// Config mirrors the image's description in a scenario; durations are seconds.
type Config struct {
	Port        int                      `json:"port"`
	Startup     Distribution             `json:"startup"`
	ServiceTime Distribution             `json:"serviceTime"`
	StreamTime  Distribution             `json:"streamTime"`
	Body        string                   `json:"body"`
	BodyBytes   int                      `json:"bodyBytes"`
	KeepAlive   bool                     `json:"keepAlive"`
	IdleTimeout *float64                 `json:"idleTimeout"`
	Root        string                   `json:"root"`
	OnStop      map[string]StopBehaviour `json:"onStop"`
}

// StopBehaviour is what the server does from a signal on.
type StopBehaviour struct {
	Listener      string   `json:"listener"` // close | keep
	Idle          string   `json:"idle"`     // close | keep | closeAfterNext
	Busy          string   `json:"busy"`     // finish | cut
	Unused        string   `json:"unused"`   // as Idle, for a connection that never sent a request
	UnusedTimeout float64  `json:"unusedTimeout"`
	Exit          string   `json:"exit"` // atOnce | drained | after | never
	ExitAfter     float64  `json:"exitAfter"`
	DrainTimeout  *float64 `json:"drainTimeout"`
}

// Signals that end a process which does not handle them; the server takes them all, so that one which is not
// described ends it at once, whatever its process id.
var signals = map[syscall.Signal]string{
	syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGHUP: "SIGHUP",
	syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2", syscall.SIGWINCH: "SIGWINCH",
	syscall.SIGABRT: "SIGABRT", syscall.SIGALRM: "SIGALRM",
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: server CONFIG.json [COMMAND ARG...]")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	config := Config{Port: 80, KeepAlive: true, Root: "/www"}
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	time.Sleep(seconds(config.Startup.Draw()))
	if len(args) > 1 {
		return become(args[1:])
	}
	return serve(config)
}

// become replaces this process, so that signals reach the command as if it had been started itself.
func become(command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, command, os.Environ())
}

func serve(config Config) error {
	received := make(chan os.Signal, 8)
	for each := range signals {
		signal.Notify(received, each)
	}
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", config.Port))
	if err != nil {
		return err
	}
	server := NewServer(config)
	go server.Accept(listener)
	for got := range received {
		stop, described := config.OnStop[signals[got.(syscall.Signal)]]
		if !described || stop.Exit == "atOnce" {
			os.Exit(0)
		}
		if stop.Listener == "close" {
			listener.Close()
		}
		server.Stop(stop)
		go exitWhen(stop, server)
	}
	return nil
}

func exitWhen(stop StopBehaviour, server *Server) {
	switch stop.Exit {
	case "after":
		time.Sleep(seconds(stop.ExitAfter))
		os.Exit(0)
	case "drained":
		if stop.DrainTimeout != nil {
			time.AfterFunc(seconds(*stop.DrainTimeout), func() { os.Exit(0) })
		}
		server.WaitDrained()
		os.Exit(0)
	}
}
