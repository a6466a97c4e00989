package main

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// cases is filled here, in init, since a case refers to what runs the cases.
var cases []struct {
	name string
	body func()
}

func add(name string, body func()) {
	cases = append(cases, struct {
		name string
		body func()
	}{name, body})
}

func withToken(name string, more ...string) url.Values {
	query := url.Values{"token": {tokens[name]}}
	for i := 0; i+1 < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return query
}

func init() {
	add("welcome_says_who_and_what", func() {
		welcome := connect("alice").welcome
		equal(welcome["rooms"], []any{}, "rooms")
		equal(welcome["heartbeat_ms"], 30000.0, "heartbeat_ms")
		equal(welcome["limits"].(object)["text_message_bytes"], float64(messageBytesMax), "limits")
	})

	add("token_by_header_subprotocol_and_query", func() {
		user := connect("alice").welcome["user"]
		byHeader, _ := dial("", dialing{tokenless: true, header: http.Header{"Authorization": {"Bearer " + tokens["alice"]}}})
		offered := []string{"tidings.v1", "tidings.token." + tokens["alice"]}
		byProtocol, _ := dial("", dialing{tokenless: true, protocols: offered})
		equal([]any{byHeader.welcome["user"], byProtocol.welcome["user"]}, []any{user, user}, "user")
		equal(byProtocol.Subprotocol(), "tidings.v1", "subprotocol")
	})

	add("each_handshake_refusal", func() {
		bothRefused(401, "token_missing", nil, nil)
		bothRefused(401, "token_malformed", withToken("malformed"), nil)
		bothRefused(401, "token_expired", withToken("expired"), nil)
		bothRefused(401, "token_signature", withToken("wrong_secret"), nil)
		bothRefused(401, "token_claims", withToken("wrong_claims"), nil)
		bothRefused(400, "invalid_cursor", withToken("alice", "last_event_id", "nonsense"), nil)
		elsewhere := http.Header{"Origin": {"http://elsewhere.example"}}
		refusal, _ := bothRefused(403, "origin_not_allowed", withToken("alice"), elsewhere)
		if !strings.Contains(refusal["fix"].(string), "elsewhere.example") {
			fail("the fix names no origin: %v", refusal["fix"])
		}
		plain := get(withToken("alice"), nil)
		equal([]any{plain.StatusCode, problem(plain)["code"]}, []any{426, "upgrade_required"}, "plain GET")
		_, answer := dial("alice", dialing{protocols: []string{"tidings.v9"}})
		if answer == nil {
			fail("connected with a subprotocol of the future")
		}
		equal([]any{answer.StatusCode, problem(answer)["code"]}, []any{409, "client_version"}, "version")
		upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}
		keyless := get(withToken("alice"), upgrade)
		equal([]any{keyless.StatusCode, problem(keyless)["code"]}, []any{400, "bad_upgrade"}, "no key")
	})

	add("connection_limit_and_takeover", func() {
		held := []*client{}
		for len(held) < 5 {
			held = append(held, connect("limited"))
		}
		_, header := bothRefused(429, "connection_limit", withToken("limited"), nil)
		if _, err := strconv.Atoi(header.Get("Retry-After")); err != nil {
			fail("Retry-After: %v", err)
		}
		session := held[0].welcome["session"].(string)
		heir := connect("limited", "session", session)
		held[0].closedWith(4009)
		if heir.welcome["session"] == session {
			fail("the session was not renewed")
		}
	})

	add("join_list_leave", func() {
		alice, name := connect("alice"), room("open")
		ack := alice.request("room.join", name, object{})
		equal([]any{ack["recovery"], ack["members"], ack["last_event_id"]}, []any{"fresh", 1.0, ack["top"]}, "ack")
		equal(offset(ack["top"].(string)), 0.0, "top")
		equal(alice.request("room.list", "", nil), object{"rooms": []any{name}}, "room.list")
		equal(alice.request("room.leave", name, nil), object{}, "room.leave")
		equal(alice.request("room.list", "", nil), object{"rooms": []any{}}, "room.list")
		equal(alice.request("presence.heartbeat", "", nil), object{}, "presence.heartbeat")
		if alice.request("session.refresh", "", object{"token": tokens["alice"]})["expires_at"] == nil {
			fail("no expires_at")
		}
	})

	add("publish_reaches_everyone_with_its_position", func() {
		alice, bob, name := two()
		id := newID()
		ack := alice.requestAs(id, "said", name, object{"content": "Hello"})
		equal(ack["duplicate"], false, "duplicate")
		for _, c := range []*client{alice, bob} {
			said := c.event("said", name)
			equal([]any{said.ID, said.Re, said.From}, []any{ack["event_id"], id, alice.welcome["user"]}, "envelope")
			equal(said.data(), object{"content": "Hello"}, "data")
		}
		data := `{"b":1.0,"a":123456789012345678901234567890,"b":[ ],"c":"\u00e9"}`
		raw := `{"event":"exact","room":"` + name + `","data":` + data + `}`
		must(alice.WriteMessage(websocket.TextMessage, []byte(raw)), "send")
		if got := bob.event("exact", name).raw; !strings.Contains(got, `"data":`+data) {
			fail("the data was altered: %s", got)
		}
	})

	add("members_and_presence", func() {
		alice, bob, name := two()
		user := bob.welcome["user"]
		came := alice.event("presence.join", name).data()
		equal(came["user"], user, "presence.join")
		bob.request("presence.update", name, object{"info": "away"})
		rev := came["rev"].(float64) + 1
		equal(alice.event("presence.update", name).data(), object{"user": user, "info": "away", "rev": rev}, "update")
		got := []string{}
		snapshot := alice.request("room.members", name, nil)
		for _, member := range snapshot["members"].([]any) {
			got = append(got, member.(object)["user"].(string))
		}
		users := []string{alice.welcome["user"].(string), user.(string)}
		sort.Strings(users)
		equal(got, users, "members")
		equal(snapshot["rev"], rev, "rev")
		bob.request("room.leave", name, nil)
		equal(alice.event("presence.leave", name).data()["rev"], rev+1, "rev of presence.leave")
		alice.refused("too_large", "presence.update", name, object{"info": strings.Repeat("x", 4097)})
	})

	add("history_and_its_pages", func() {
		alice, ids := connect("alice"), []string{}
		name := alice.joined(room("open"))
		for n := 0; n < 5; n++ {
			ids = append(ids, alice.publish(name, n))
		}
		newest := alice.request("room.history", name, object{"limit": 2})
		first := newest["events"].([]any)[0].(object)
		equal([]any{len(newest["events"].([]any)), first["id"]}, []any{2, ids[3]}, "the newest")
		older := alice.request("room.history", name, object{"before": newest["next"]})
		equal(len(older["events"].([]any)), 3, "before them")
		bob := connect("bob")
		equal(bob.request("room.join", name, object{"history": 2})["last_event_id"], ids[2], "last_event_id")
		equal(bob.nextIDs(name, 2), ids[3:], "what follows")
	})

	add("others_get_it_and_the_sender_a_skip", func() {
		alice, bob, name := two()
		alice.request("others", name, 1)
		heard, skip := bob.event("others", name), alice.event("room.skip", name)
		equal(skip.ID, heard.ID, "position")
		equal(skip.data(), object{"from": offset(heard.ID), "reason": "excluded"}, "skip")
	})

	add("binary_both_ways", func() {
		alice, bob, name := two()
		id, payload := newID(), strings.Repeat("\x00\xff\x80", 700)
		header, err := json.Marshal(object{"event": "image", "room": name, "id": id})
		must(err, "header")
		frame := binary.BigEndian.AppendUint16(nil, uint16(len(header)))
		must(alice.WriteMessage(websocket.BinaryMessage, append(append(frame, header...), payload...)), "send")
		ack, _ := alice.answer(id)
		for _, c := range []*client{alice, bob} {
			image := c.event("image", name)
			equal([]any{image.ID, image.Re, string(image.payload)}, []any{ack["event_id"], id, payload}, "image")
		}
	})

	add("auto_join_a_cut_and_last_event_id", func() {
		alice := connect("alice")
		alice.joined("open:auto")
		before := connect("auto")
		equal(before.welcome["rooms"], []any{"open:auto"}, "rooms")
		start := before.welcome["last_event_id"].(string)
		before.UnderlyingConn().Close()
		missed := []string{}
		for n := 0; n < 3; n++ {
			missed = append(missed, alice.publish("open:auto", n))
		}
		auto := connect("auto", "last_event_id", start)
		missed = append(missed, alice.publish("open:auto", 3))
		equal(auto.nextIDs("open:auto", 4), missed, "replay, then live")
		other := alice.publish(alice.joined(room("open")), 1)
		reset := connect("auto", "last_event_id", other).event("room.reset", "open:auto")
		equal(reset.data()["reason"], "no_position", "reason")
	})

	add("resume_by_message", func() {
		alice := connect("alice")
		name, forbidden := alice.joined(room("open")), room("closed")
		before := connect("bob")
		start := before.request("room.join", name, object{})["top"].(string)
		before.UnderlyingConn().Close()
		missed := []string{alice.publish(name, 0), alice.publish(name, 1)}
		bob := connect("bob", "resume", "wait")
		cursor := start + "," + forbidden + "@k3f9a1qz.1"
		ack := bob.request("session.resume", "", object{"last_event_id": cursor})["rooms"].(object)
		joined := ack[name].(object)
		equal([]any{joined["recovery"], joined["last_event_id"], joined["top"]}, []any{"complete", start, missed[1]}, name)
		equal(ack[forbidden], object{"error": "forbidden"}, forbidden)
		equal(bob.nextIDs(name, 2), missed, "replay")
	})

	add("positions_that_this_log_never_had", func() {
		alice, bob, name := two()
		top := alice.publish(name, 1)
		bob.event("said", name)
		for position, reason := range map[string]string{
			name + "@00000000.5": "unknown_epoch", top[:strings.LastIndex(top, ".")] + ".1000": "too_far",
		} {
			ack := bob.request("room.join", name, object{"last_event_id": position})
			equal([]any{ack["recovery"], ack["top"]}, []any{"gap", top}, position)
			equal(bob.event("room.reset", name).data()["reason"], reason, position)
		}
	})

	add("checkpoints", func() {
		alice := connect("alice", "checkpoints", "1")
		top := alice.request("room.join", room("open"), object{})["top"].(string)
		alice.take(func(m message) bool {
			return m.Event == "session.checkpoint" && strings.Contains(m.data()["last_event_id"].(string), top)
		})
	})

	add("idempotency", func() {
		alice := connect("alice")
		name, id := alice.joined(room("open")), newID()
		first := alice.requestAs(id, "said", name, object{"n": 1})
		again := alice.requestAs(id, "said", name, object{"n": 1})
		equal([]any{again["event_id"], again["duplicate"]}, []any{first["event_id"], true}, "the second ack")
		_, code := alice.try("said", name, object{"n": 2}, id)
		equal(code, "idempotency_conflict", "another payload")
	})

	add("handlers_and_refusals", func() {
		alice, bob, name := two()
		ack := alice.request("message.send", "", object{"channelId": name, "content": "Hello"})
		equal(ack["stored"], true, "the handler's own result")
		equal(bob.event("message.send", name).data()["content"], "Hello", "the broadcast")
		alice.request("slow", "", nil)
		alice.refused("internal", "panic", "", nil)
		equal(alice.refused("schema", "typed", "", object{"n": "one"})["pointer"], "/n", "pointer")
		alice.refused("unknown_event", "nobody.handles.this", "", nil)
		alice.refused("forbidden", "room.join", room("closed"), object{})
		alice.refused("forbidden", "said", alice.joined(room("read")), 1)
		alice.refused("unknown_room", "room.join", room("nowhere"), object{})
		alice.refused("not_joined", "said", room("open"), 1)
	})

	add("what_is_no_message", func() {
		alice, _, name := two()
		for _, raw := range []string{"", "{", "[]", `{"data":1}`, `{"event":"a b"}`} {
			alice.invalid(raw, "")
		}
		for _, rest := range []string{
			`"event":"said","room":"` + name + `","more":1`, `"event":"said","event":"said"`, `"event":"room.nuke"`,
		} {
			id := newID()
			alice.invalid(`{"id":"`+id+`",`+rest+`}`, id)
		}
		id := newID()
		nested := func(depth int) string {
			data := strings.Repeat("[", depth) + strings.Repeat("]", depth)
			return `{"event":"said","room":"` + name + `","id":"` + id + `","data":` + data + `}`
		}
		alice.invalid(nested(33), id)
		must(alice.WriteMessage(websocket.TextMessage, []byte(nested(32))), "send")
		if data, code := alice.answer(id); code != "" {
			fail("depth 32: %v", data)
		}
	})

	add("room_limit", func() {
		alice, positions := connect("alice"), []string{}
		for len(positions) < 101 {
			positions = append(positions, room("open")+"@k3f9a1qz.0")
		}
		resume := object{"last_event_id": strings.Join(positions, ",")}
		refused := 0
		for _, joined := range alice.request("session.resume", "", resume)["rooms"].(object) {
			if code := joined.(object)["error"]; code != nil {
				equal(code, "room_limit", "the 101st")
				refused++
			}
		}
		equal(refused, 1, "refused rooms")
		alice.refused("room_limit", "room.join", room("open"), object{})
	})

	add("rate_limit", func() {
		c, ids, refused := connect("limited"), []string{}, 0
		for len(ids) < 100 {
			ids = append(ids, newID())
			c.send("room.list", "", nil, ids[len(ids)-1])
		}
		for _, id := range ids {
			if data, code := c.answer(id); code != "" {
				equal(code, "rate_limited", "code")
				if retry, _ := data["retry_after_ms"].(float64); retry <= 0 {
					fail("retry_after_ms: %v", data)
				}
				refused++
			}
		}
		if refused == 0 || refused > 60 {
			fail("%d of 100 were refused", refused)
		}
	})

	add("ping_and_close_are_answered", func() {
		alice, pong := connect("alice"), ""
		alice.SetPongHandler(func(payload string) error { pong = payload; return nil })
		must(alice.WriteControl(websocket.PingMessage, []byte("tidings"), time.Now().Add(wait)), "ping")
		// Reading is what calls the handler; the ack comes after the pong.
		alice.request("presence.heartbeat", "", nil)
		equal(pong, "tidings", "pong")
		done := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		must(alice.WriteControl(websocket.CloseMessage, done, time.Now().Add(wait)), "close")
		alice.closedWith(websocket.CloseNormalClosure)
	})

	add("size_limit", func() {
		alice, _, name := two()
		head, tail := `{"event":"said","room":"`+name+`","data":"`, `"}`
		fill := strings.Repeat("x", messageBytesMax-len(head)-len(tail))
		must(alice.WriteMessage(websocket.TextMessage, []byte(head+fill+tail)), "send")
		alice.event("said", name)
		must(alice.WriteMessage(websocket.TextMessage, []byte(head+fill+"x"+tail)), "send")
		alice.closedWith(websocket.CloseMessageTooBig)
	})

	add("broken_frames_close_with_1002_and_1007", func() {
		unmasked := connect("alice")
		_, err := unmasked.UnderlyingConn().Write([]byte("\x81\x02{}"))
		must(err, "send")
		unmasked.closedWith(websocket.CloseProtocolError)
		notUTF8 := connect("alice")
		must(notUTF8.WriteMessage(websocket.TextMessage, []byte("\"\xff\"")), "send")
		notUTF8.closedWith(websocket.CloseInvalidFramePayloadData)
	})
}
