// Holds the conversation of PROTOCOL.md with a running server, by the library gorilla/websocket.
//
// Written against the protocol page alone. The server is TIDINGS_TEST_URL, its tokens TIDINGS_TEST_TOKENS (a JSON
// object: name to token); ../README.md says what that server has to offer. Arguments are the names of cases to run
// alone. Every wait has a bound. This file speaks; cases.go says what has to be answered.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	wait            = 5 * time.Second
	messageBytesMax = 64 * 1024
)

var (
	base    = os.Getenv("TIDINGS_TEST_URL")
	tokens  = map[string]string{}
	run     = strconv.FormatUint(uint64(rand.New(rand.NewSource(time.Now().UnixNano())).Uint32()), 16)
	counter int
	open    []*client
)

type object = map[string]any

// failure is how a case ends early: a panic that main turns into `not ok`.
type failure struct{ why string }

func fail(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func equal(got, wanted any, what string) {
	if !reflect.DeepEqual(got, wanted) {
		fail("%s: %#v, not %#v", what, got, wanted)
	}
}

func newID() string {
	counter++
	return fmt.Sprintf("%s-%d", run, counter)
}

func room(kind string) string { return kind + ":" + newID() }

func offset(id string) float64 {
	n, err := strconv.ParseFloat(id[strings.LastIndex(id, ".")+1:], 64)
	must(err, id)
	return n
}

// message is one message off the wire: a binary one has its payload, a text one its bytes.
type message struct {
	Event, Room, From, Re string
	ID                    string
	Data                  json.RawMessage
	payload               []byte
	raw                   string
}

func (m message) data() object {
	data := object{}
	must(json.Unmarshal(m.Data, &data), "data of "+m.Event)
	return data
}

type client struct {
	*websocket.Conn
	waiting []message
	welcome object
}

// dialing is what a handshake may carry beside the user's token in the query.
type dialing struct {
	query     url.Values
	header    http.Header
	protocols []string
	tokenless bool
}

func target(query url.Values) string {
	if len(query) == 0 {
		return base
	}
	return base + "?" + query.Encode()
}

// dial connects; where the server refuses, the answer comes back instead of a client.
func dial(user string, with dialing) (*client, *http.Response) {
	query := url.Values{}
	for name, values := range with.query {
		query[name] = values
	}
	if !with.tokenless {
		query.Set("token", tokens[user])
	}
	dialer := websocket.Dialer{HandshakeTimeout: wait, Subprotocols: with.protocols}
	ws, answer, err := dialer.Dial(target(query), with.header)
	if errors.Is(err, websocket.ErrBadHandshake) && answer != nil {
		return nil, answer
	}
	must(err, "dial")
	c := &client{Conn: ws}
	open = append(open, c)
	c.welcome = c.event("session.welcome", "").data()
	return c, nil
}

func connect(user string, query ...string) *client {
	with := dialing{query: url.Values{}}
	for i := 0; i+1 < len(query); i += 2 {
		with.query.Set(query[i], query[i+1])
	}
	c, refusal := dial(user, with)
	if refusal != nil {
		fail("refused with %s", refusal.Status)
	}
	return c
}

func two() (alice, bob *client, name string) {
	alice, bob = connect("alice"), connect("bob")
	name = alice.joined(room("open"))
	bob.joined(name)
	return alice, bob, name
}

func (c *client) receive() message {
	must(c.SetReadDeadline(time.Now().Add(wait)), "deadline")
	kind, raw, err := c.ReadMessage()
	must(err, "receive")
	m := message{raw: string(raw)}
	if kind == websocket.BinaryMessage {
		end := 2 + int(binary.BigEndian.Uint16(raw))
		m.payload, raw = raw[end:], raw[2:end]
	}
	must(json.Unmarshal(raw, &m), "a message")
	return m
}

// take gives the first message that fits; the others stay, in their order.
func (c *client) take(fits func(message) bool) message {
	for i, m := range c.waiting {
		if fits(m) {
			c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
			return m
		}
	}
	for until := time.Now().Add(wait); time.Now().Before(until); {
		m := c.receive()
		if fits(m) {
			return m
		}
		c.waiting = append(c.waiting, m)
	}
	fail("nothing that fits came within %v", wait)
	return message{}
}

func (c *client) event(name, in string) message {
	return c.take(func(m message) bool { return m.Event == name && (in == "" || m.Room == in) })
}

// nextIDs gives the ids of the next messages of a room that have a position.
func (c *client) nextIDs(in string, count int) []string {
	ids := []string{}
	for len(ids) < count {
		ids = append(ids, c.take(func(m message) bool { return m.Room == in && m.ID != "" }).ID)
	}
	return ids
}

func (c *client) send(event, in string, data any, id string) {
	m := object{"event": event}
	if in != "" {
		m["room"] = in
	}
	if data != nil {
		m["data"] = data
	}
	if id != "" {
		m["id"] = id
	}
	must(c.WriteJSON(m), "send")
}

// answer gives the ack's data, and the code of an error in its place.
func (c *client) answer(id string) (data object, code string) {
	m := c.take(func(m message) bool { return (m.Event == "ack" || m.Event == "error") && m.ID == id })
	data = m.data()
	if m.Event == "error" {
		code, _ = data["code"].(string)
		if data["message"] == "" {
			fail("an error without a sentence for people: %v", data)
		}
	}
	return data, code
}

// try sends and awaits the answer. What is too fast is sent again with the same id when the server says so (§3).
func (c *client) try(event, in string, data any, id string) (object, string) {
	for until := time.Now().Add(wait); ; {
		c.send(event, in, data, id)
		got, code := c.answer(id)
		if code != "rate_limited" || time.Now().After(until) {
			return got, code
		}
		retry, _ := got["retry_after_ms"].(float64)
		time.Sleep(time.Duration(retry) * time.Millisecond)
	}
}

func (c *client) request(event, in string, data any) object {
	return c.requestAs(newID(), event, in, data)
}

func (c *client) requestAs(id, event, in string, data any) object {
	got, code := c.try(event, in, data, id)
	if code != "" {
		fail("%s in %q: error %v", event, in, got)
	}
	return got
}

func (c *client) refused(code, event, in string, data any) object {
	got, gotCode := c.try(event, in, data, newID())
	equal(gotCode, code, event+" in "+in)
	return got
}

// publish gives the event's id.
func (c *client) publish(in string, data any) string {
	return c.request("said", in, data)["event_id"].(string)
}

// invalid sends text that is no message; the error carries the id if there is one.
func (c *client) invalid(raw, id string) {
	must(c.WriteMessage(websocket.TextMessage, []byte(raw)), "send")
	m := c.take(func(m message) bool { return m.Event == "error" && m.ID == id })
	equal(m.data()["code"], "invalid", raw)
}

func (c *client) joined(in string) string {
	c.request("room.join", in, object{})
	return in
}

func (c *client) closedWith(code int) {
	must(c.SetReadDeadline(time.Now().Add(wait)), "deadline")
	for {
		_, _, err := c.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			equal(closed.Code, code, "close code")
			return
		}
		must(err, "waiting for the close")
	}
}

// problem reads a refusal, whose form is RFC 9457's.
func problem(answer *http.Response) object {
	defer answer.Body.Close()
	body := object{}
	if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/problem+json") {
		fail("%s with content type %q", answer.Status, kind)
	}
	raw, err := io.ReadAll(answer.Body)
	must(err, "problem")
	must(json.Unmarshal(raw, &body), "problem")
	equal(body["status"], float64(answer.StatusCode), "status in the body")
	for _, field := range []string{"type", "title", "detail", "code", "fix"} {
		if text, _ := body[field].(string); text == "" {
			fail("the problem has no %s: %s", field, raw)
		}
	}
	return body
}

// get asks for the same URL by plain HTTP.
func get(query url.Values, header http.Header) *http.Response {
	request, err := http.NewRequest("GET", "http"+strings.TrimPrefix(target(query), "ws"), nil)
	must(err, "request")
	request.Header = header.Clone()
	asking := http.Client{Timeout: wait}
	answer, err := asking.Do(request)
	must(err, "GET")
	return answer
}

// bothRefused wants the same refusal from the library's upgrade and from the plain GET.
func bothRefused(status int, code string, query url.Values, header http.Header) (object, http.Header) {
	c, answer := dial("", dialing{query: query, header: header, tokenless: true})
	if c != nil {
		fail("connected, where %s was expected", code)
	}
	seen := problem(answer)
	equal([]any{answer.StatusCode, seen["code"]}, []any{status, code}, "upgrade")
	plain := get(query, header)
	equal([]any{plain.StatusCode, problem(plain)["code"]}, []any{status, code}, "plain GET")
	return seen, answer.Header
}

func attempt(body func()) (why string) {
	defer func() {
		if cause := recover(); cause != nil {
			if known, ok := cause.(failure); ok {
				why = known.why
			} else {
				why = fmt.Sprint(cause)
			}
		}
	}()
	body()
	return ""
}

func main() {
	must(json.Unmarshal([]byte(os.Getenv("TIDINGS_TEST_TOKENS")), &tokens), "TIDINGS_TEST_TOKENS")
	passed, failed := 0, 0
	for _, one := range cases {
		if len(os.Args) > 1 && !strings.Contains(" "+strings.Join(os.Args[1:], " ")+" ", " "+one.name+" ") {
			continue
		}
		if why := attempt(one.body); why == "" {
			passed++
			fmt.Println("ok", one.name)
		} else {
			failed++
			fmt.Printf("not ok %s: %s\n", one.name, strings.ReplaceAll(why, "\n", " "))
		}
		// Closed and awaited, so that the next case finds its users' slots free.
		for _, c := range open {
			done := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			if c.WriteControl(websocket.CloseMessage, done, time.Now().Add(wait)) == nil {
				attempt(func() { c.closedWith(websocket.CloseNormalClosure) })
			}
			c.Close()
		}
		open = nil
	}
	fmt.Printf("%d passed, %d failed, 0 skipped\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
