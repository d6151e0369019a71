// Callers of the rows of tunnels: CONNECT, TLS inside, and 1 KB POSTs, one after the other, over kept tunnels or each
// over a new one. With -direct there is no CONNECT, with -plain no TLS either, for proxies that are measured beside.
//
// The first request goes to -check, whose response must be -expect. Prints a line of JSON with what was measured; with
// -hold it then waits, with its tunnels open, until standard input ends. Ends with status 1 at the first error.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	port        = flag.Int("port", 0, "where the proxy listens on 127.0.0.1")
	authority   = flag.String("authority", "", "what to ask for; {} is the number of the host")
	user        = flag.String("user", "", "proxy user and password; {} is the number of the group")
	group       = flag.Int("group", 1, "how many hosts share a user")
	hosts       = flag.Int("hosts", 1, "how many hosts take turns")
	first       = flag.Int("first", 0, "the number of the first")
	path        = flag.String("path", "", "path of a request")
	check       = flag.String("check", "", "path of the first request")
	expect      = flag.String("expect", "", "its response")
	roots       = flag.String("roots", "", "file of the certificates to trust")
	direct      = flag.Bool("direct", false, "begin TLS without a CONNECT")
	plain       = flag.Bool("plain", false, "send without CONNECT and TLS")
	connections = flag.Int("connections", 1, "callers at a time")
	seconds     = flag.Float64("seconds", 0, "how long")
	limit       = flag.Int("limit", 1<<40, "at most so many requests")
	once        = flag.Bool("once", false, "each request over a connection of its own")
	rate        = flag.Float64("rate", 0, "requests that are due in a second; 0: as fast as they are responded to")
	hold        = flag.Bool("hold", false, "keep all connections open until standard input ends")
)

const patience = 30 * time.Second

var body = strings.Repeat("x", 1024)

// caller is one connection, with what was read from it and not yet used.
type caller struct {
	connection net.Conn
	received   *bufio.Reader
	request    []byte
}

func request(path string, number int) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", path, numbered(*authority, number), len(body), body)
}

func numbered(text string, number int) string {
	return strings.ReplaceAll(text, "{}", strconv.Itoa(number))
}

// open connects to the proxy, asks it for a tunnel to a host and begins TLS in it.
func open(number int, trusted *x509.CertPool) (*caller, error) {
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		return nil, err
	}
	if err := connection.SetDeadline(time.Now().Add(patience + time.Duration(*seconds*float64(time.Second)))); err != nil {
		return nil, err
	}
	target := numbered(*authority, number)
	if !*plain && !*direct {
		credentials := base64.StdEncoding.EncodeToString([]byte(numbered(*user, number / *group)))
		_, err := fmt.Fprintf(connection, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic %s\r\n\r\n",
			target, target, credentials)
		if err != nil {
			return nil, err
		}
		head := make([]byte, 0, 1024)
		for !bytes.Contains(head, []byte("\r\n\r\n")) {
			if len(head) == cap(head) {
				return nil, errors.New("the response to a CONNECT is too long")
			}
			count, err := connection.Read(head[len(head):cap(head)])
			if err != nil {
				return nil, fmt.Errorf("CONNECT: %w", err)
			}
			head = head[:len(head)+count]
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
			return nil, fmt.Errorf("CONNECT %s: %s", target, bytes.SplitN(head, []byte("\r\n"), 2)[0])
		}
	}
	if !*plain {
		host, _, err := net.SplitHostPort(target)
		if err != nil {
			return nil, err
		}
		// One version and one group, which all of the proxies have, so that all do the same work: the newest groups cost
		// a client more than a whole request.
		config := &tls.Config{ServerName: host, RootCAs: trusted, MinVersion: tls.VersionTLS13,
			CurvePreferences: []tls.CurveID{tls.X25519}}
		inside := tls.Client(connection, config)
		if err := inside.Handshake(); err != nil {
			return nil, fmt.Errorf("TLS for %s: %w", host, err)
		}
		connection = inside
	}
	return &caller{connection, bufio.NewReaderSize(connection, 4096), request(*path, number)}, nil
}

// exchange sends a request and reads its response, which must be a 200 with a Content-Length. The body returned is valid
// until the next one.
func (c *caller) exchange(request []byte) ([]byte, error) {
	if _, err := c.connection.Write(request); err != nil {
		return nil, err
	}
	length := -1
	for start := true; ; start = false {
		line, err := c.received.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("the head of a response: %w", err)
		}
		line = bytes.TrimSuffix(line, []byte("\r\n"))
		if start && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return nil, fmt.Errorf("a response began with %s", line)
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, errors.New("a response came without Content-Length")
	}
	received, err := c.received.Peek(length)
	if err != nil {
		return nil, fmt.Errorf("the body of a response: %w", err)
	}
	_, err = c.received.Discard(length)
	return received, err
}

// load is what callers do together: they take turns at the requests that are left.
type load struct {
	trusted *x509.CertPool
	began   time.Time
	end     time.Time
	turn    atomic.Int64
	lock    sync.Mutex
	times   []time.Duration
	held    []*caller
}

// next waits until another request is due; the moment from which it is timed, or that there is none.
func (l *load) next() (int, time.Time, bool) {
	turn := int(l.turn.Add(1)) - 1
	due := time.Now()
	if *rate > 0 {
		due = l.began.Add(time.Duration(float64(turn) / *rate * float64(time.Second)))
	}
	if turn >= *limit || !due.Before(l.end) {
		return turn, due, false
	}
	time.Sleep(time.Until(due))
	return turn, due, true
}

// run is what one caller does.
func (l *load) run() error {
	var kept *caller
	var times []time.Duration
	defer func() {
		l.lock.Lock()
		defer l.lock.Unlock()
		l.times = append(l.times, times...)
		if kept != nil {
			l.held = append(l.held, kept)
		}
	}()
	for {
		turn, began, good := l.next()
		if !good {
			return nil
		}
		if kept == nil {
			var err error
			if kept, err = open(*first+turn%*hosts, l.trusted); err != nil {
				return err
			}
		}
		if _, err := kept.exchange(kept.request); err != nil {
			return err
		}
		times = append(times, time.Since(began))
		if *once {
			if *hold {
				l.lock.Lock()
				l.held = append(l.held, kept)
				l.lock.Unlock()
			} else if err := kept.connection.Close(); err != nil {
				return err
			}
			kept = nil
		}
	}
}

// verify makes sure that the upstream is sent the credential, and nothing else.
func verify(trusted *x509.CertPool) error {
	one, err := open(*first, trusted)
	if err != nil {
		return err
	}
	defer one.connection.Close()
	seen, err := one.exchange(request(*check, *first))
	if err == nil && string(seen) != *expect {
		err = errors.New("the upstream did not receive exactly one Authorization header with the credential")
	}
	return err
}

func main() {
	log.SetFlags(0)
	flag.Parse()
	debug.SetGCPercent(800)
	trusted := x509.NewCertPool()
	if !*plain {
		pem, err := os.ReadFile(*roots)
		if err != nil {
			log.Fatal(err)
		}
		trusted.AppendCertsFromPEM(pem)
	}
	if err := verify(trusted); err != nil {
		log.Fatal(err)
	}
	began := time.Now()
	l := &load{trusted: trusted, began: began, end: began.Add(time.Duration(*seconds * float64(time.Second)))}
	var callers sync.WaitGroup
	for range *connections {
		callers.Add(1)
		go func() {
			defer callers.Done()
			if err := l.run(); err != nil {
				log.Fatal(err)
			}
		}()
	}
	callers.Wait()
	took := time.Since(began)
	slices.Sort(l.times)
	if len(l.times) == 0 {
		log.Fatal("no request had a response")
	}
	percentile := func(share float64) int64 {
		return l.times[min(len(l.times)-1, int(share*float64(len(l.times))))].Microseconds()
	}
	result := map[string]int64{"requests": int64(len(l.times)), "microseconds": took.Microseconds(),
		"p50": percentile(0.5), "p99": percentile(0.99)}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
	if *hold {
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			log.Fatal(err)
		}
	}
}
