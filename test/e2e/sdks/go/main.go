// Sends events with the published posthog-go, as an application would, and prints what failed and what it sent.
// Arguments: host, token, events, users, name, secret key. With the secret key the client decides flags by itself.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/posthog/posthog-go"
)

type sentEvent struct {
	Uuid       string `json:"uuid,omitempty"`
	Event      string `json:"event"`
	DistinctId string `json:"distinctId"`
	Index      *int   `json:"index,omitempty"`
}

// report collects what the client says of itself, from its own goroutines.
type report struct {
	mutex    sync.Mutex
	Failures []string    `json:"failures"`
	Sent     []sentEvent `json:"sent"`
}

func (r *report) fail(format string, args ...interface{}) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

func (r *report) Logf(format string, args ...interface{})   { r.fail(format, args...) }
func (r *report) Errorf(format string, args ...interface{}) { r.fail(format, args...) }
func (r *report) Failure(_ posthog.APIMessage, err error)   { r.fail("an event was given up: %s", err) }

// Success reads back what was sent; the SDK's message types marshal to what is on the wire.
func (r *report) Success(message posthog.APIMessage) {
	text, err := json.Marshal(message)
	if err != nil {
		r.fail("%s", err)
		return
	}
	var event struct {
		Uuid       string `json:"uuid"`
		Event      string `json:"event"`
		DistinctId string `json:"distinct_id"`
		Properties struct {
			DistinctId string `json:"distinct_id"` // where an alias has it
			Index      *int   `json:"index"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(text, &event); err != nil {
		r.fail("%s", err)
		return
	}
	if event.DistinctId == "" {
		event.DistinctId = event.Properties.DistinctId
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Sent = append(r.Sent, sentEvent{event.Uuid, event.Event, event.DistinctId, event.Properties.Index})
}

func main() {
	host, token, name, secretKey := os.Args[1], os.Args[2], os.Args[5], os.Args[6]
	events, _ := strconv.Atoi(os.Args[3])
	users, _ := strconv.Atoi(os.Args[4])
	result := &report{Failures: []string{}, Sent: []sentEvent{}}
	client, err := posthog.NewWithConfig(token, posthog.Config{
		Endpoint:       host,
		PersonalApiKey: secretKey,
		Interval:       200 * time.Millisecond,
		BatchSize:      20,
		Logger:         result,
		Callback:       result,
	})
	if err != nil {
		panic(err)
	}
	enqueue := func(message posthog.Message) {
		if err := client.Enqueue(message); err != nil {
			result.fail("%s", err)
		}
	}
	for user := 0; user < users; user++ {
		id, anonymous := fmt.Sprintf("%s-user-%d", name, user), fmt.Sprintf("%s-anon-%d", name, user)
		enqueue(posthog.Capture{DistinctId: anonymous, Event: name + " before identify"})
		enqueue(posthog.Alias{DistinctId: id, Alias: anonymous})
		enqueue(posthog.Identify{
			DistinctId: id,
			Properties: posthog.NewProperties().Set("plan", "pro").Set("index", user),
		})
		enqueue(posthog.GroupIdentify{
			Type:       "company",
			Key:        fmt.Sprintf("company-%d", user%5),
			Properties: posthog.NewProperties().Set("size", user%5),
		})
	}
	for index := 0; index < events; index++ {
		enqueue(posthog.Capture{
			DistinctId: fmt.Sprintf("%s-user-%d", name, index%users),
			Event:      name + " event",
			Properties: posthog.NewProperties().Set("index", index).Set("sent_ms", time.Now().UnixMilli()),
			Groups:     posthog.NewGroups().Set("company", fmt.Sprintf("company-%d", index%5)),
		})
	}
	flag, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{
		Key:        "no-such-flag",
		DistinctId: name + "-user-0",
	})
	if err != nil || flag != false {
		result.fail("a flag that nobody made is %v (%v)", flag, err)
	}
	if err := client.ReloadFeatureFlags(); err != nil {
		result.fail("%s", err)
	}
	if err := client.Close(); err != nil {
		result.fail("%s", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		panic(err)
	}
}
