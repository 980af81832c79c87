package main

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// State of one client connection, as the stop signal finds it.
type State int

const (
	Unused State = iota // accepted, no byte of a request yet
	Idle                // its last answer is complete
	Busy                // a request is being read or answered
)

// Server holds every open connection with its state; all of it changes under one lock.
type Server struct {
	config  Config
	files   map[string]bool // paths that are files at the start: an answer needs them to be there still
	mu      sync.Mutex
	drained *sync.Cond
	open    map[*Connection]bool
	stop    *StopBehaviour
}

func NewServer(config Config) *Server {
	server := &Server{config: config, files: map[string]bool{}, open: map[*Connection]bool{}}
	server.drained = sync.NewCond(&server.mu)
	entries, _ := os.ReadDir(config.Root)
	for _, entry := range entries {
		if !entry.IsDir() && entry.Name() != "index.html" {
			server.files["/"+entry.Name()] = true
		}
	}
	return server
}

// Accept serves until the listener is closed.
func (s *Server) Accept(listener net.Listener) {
	for {
		socket, err := listener.Accept()
		if err != nil {
			return
		}
		connection := &Connection{server: s, socket: socket}
		s.mu.Lock()
		s.open[connection] = true
		if s.stop != nil {
			connection.boundUnused(s.stop)
		}
		s.mu.Unlock()
		go connection.Serve()
	}
}

// Stop does to every connection what the behaviour says for its state.
func (s *Server) Stop(stop StopBehaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = &stop
	for connection := range s.open {
		switch connection.state {
		case Unused:
			if stop.Unused == "close" {
				connection.close()
			} else {
				connection.boundUnused(&stop)
			}
		case Idle:
			if stop.Idle == "close" {
				connection.close()
			}
		case Busy:
			if stop.Busy == "cut" {
				connection.close()
			}
		}
	}
}

// WaitDrained returns when no connection is open.
func (s *Server) WaitDrained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open) > 0 {
		s.drained.Wait()
	}
}

// staysOpen tells whether a connection outlives an answer whose header leaves now.
func (s *Server) staysOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.KeepAlive && (s.stop == nil || s.stop.Idle == "keep")
}

// exists tells whether a path can be answered: one that was a file at the start must be one still.
func (s *Server) exists(path string) bool {
	if !s.files[path] {
		return true
	}
	_, err := os.Stat(filepath.Join(s.config.Root, path))
	return err == nil
}

// enter moves a connection to a state; false when a stop has closed it.
func (s *Server) enter(connection *Connection, state State) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	connection.state = state
	return s.open[connection]
}

// boundUnused limits how long a connection without a request holds a stopping server back. Lock held.
func (c *Connection) boundUnused(stop *StopBehaviour) {
	if stop.UnusedTimeout > 0 && stop.Exit == "drained" {
		c.socket.SetReadDeadline(time.Now().Add(seconds(stop.UnusedTimeout)))
	}
}

// close ends the connection: FIN, or RST where unread bytes wait. Lock held.
func (c *Connection) close() {
	if c.server.open[c] {
		delete(c.server.open, c)
		c.socket.Close()
		c.server.drained.Broadcast()
	}
}
