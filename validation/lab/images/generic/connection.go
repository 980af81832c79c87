package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// chunkEvery is the pace of a streamed body.
const chunkEvery = 10 * time.Millisecond

// Connection is one accepted socket and the state that a stop signal finds it in.
type Connection struct {
	server *Server
	socket net.Conn
	state  State
}

// Request is what decides an answer.
type Request struct {
	path      string
	head      bool
	keepAlive bool
}

// Serve answers requests until the client or a stop ends the connection.
func (c *Connection) Serve() {
	defer func() {
		c.server.mu.Lock()
		c.close()
		c.server.mu.Unlock()
	}()
	reader := bufio.NewReader(c.socket)
	for {
		if c.state == Idle && c.server.config.IdleTimeout != nil {
			c.socket.SetReadDeadline(time.Now().Add(seconds(*c.server.config.IdleTimeout)))
		}
		if _, err := reader.Peek(1); err != nil || !c.server.enter(c, Busy) {
			return
		}
		c.socket.SetReadDeadline(time.Time{})
		request, err := readRequest(reader)
		if err != nil || !c.answer(request) || !c.server.enter(c, Idle) {
			return
		}
	}
}

// answer writes one answer; false when the connection ends with it.
func (c *Connection) answer(request Request) bool {
	if !c.server.exists(request.path) {
		return c.write("404 Not Found", "not found\n", request, 0)
	}
	if c.server.files[request.path] {
		return c.write("200 OK", "ok\n", request, 0)
	}
	config := &c.server.config
	time.Sleep(seconds(config.ServiceTime.Draw()))
	body := config.Body
	if missing := config.BodyBytes - len(body); missing > 0 {
		body += strings.Repeat(".", missing)
	}
	return c.write("200 OK", body, request, seconds(config.StreamTime.Draw()))
}

func (c *Connection) write(status, body string, request Request, over time.Duration) bool {
	stays := request.keepAlive && c.server.staysOpen()
	connection := "close"
	if stays {
		connection = "keep-alive"
	}
	header := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n",
		status, len(body), connection)
	if request.head {
		body = ""
	}
	if over <= 0 || body == "" {
		_, err := io.WriteString(c.socket, header+body)
		return stays && err == nil
	}
	if _, err := io.WriteString(c.socket, header); err != nil {
		return false
	}
	return c.stream(body, over) == nil && stays
}

// stream writes the body evenly; its last byte leaves when the time is over.
func (c *Connection) stream(body string, over time.Duration) error {
	chunks := max(1, min(int(over/chunkEvery), len(body)))
	begun := time.Now()
	for i := range chunks {
		time.Sleep(time.Until(begun.Add(over * time.Duration(i+1) / time.Duration(chunks))))
		if _, err := io.WriteString(c.socket, body[i*len(body)/chunks:(i+1)*len(body)/chunks]); err != nil {
			return err
		}
	}
	return nil
}

func readRequest(reader *bufio.Reader) (Request, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return Request{}, err
	}
	words := strings.Fields(line)
	if len(words) != 3 {
		return Request{}, fmt.Errorf("no request line: %q", line)
	}
	path, _, _ := strings.Cut(words[1], "?")
	request := Request{path: path, head: words[0] == "HEAD", keepAlive: words[2] != "HTTP/1.0"}
	length := 0
	for {
		if line, err = reader.ReadString('\n'); err != nil {
			return Request{}, err
		}
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			break
		}
		value = strings.ToLower(strings.TrimSpace(value))
		switch strings.ToLower(name) {
		case "connection":
			request.keepAlive = value != "close" && (request.keepAlive || value == "keep-alive")
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil {
				return Request{}, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, reader, int64(length))
	return request, err
}
