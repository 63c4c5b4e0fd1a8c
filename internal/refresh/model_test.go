package refresh

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"
)

// modelTable is docs/model/judge.json: what the formal model says of every
// situation that its language can express.
type modelTable struct {
	Rules    string         `json:"rules_sha256"`
	Outcomes []modelOutcome `json:"outcomes"`
	Lines    []struct {
		Situation [5]int `json:"situation"` // belongs, proof, life, rotates, position
		Outcomes  string `json:"outcomes"`
	} `json:"lines"`
}

// modelOutcome is the row and its effects; Streak and Fresh count where the
// head moves.
type modelOutcome struct {
	Row    int  `json:"row"`
	Moves  bool `json:"moves"`
	Streak int  `json:"streak"`
	Fresh  bool `json:"fresh"`
	Marks  bool `json:"marks"`
	Favour bool `json:"favour"`
	Ends   bool `json:"ends"`
}

// shape is one of the concrete things that an abstract word of the model
// stands for.
type shape struct {
	family  func(*Family)
	attempt func(*Attempt)
}

// given puts a shape on a family and an attempt.
func (s shape) given(f *Family, a *Attempt) {
	if s.family != nil {
		s.family(f)
	}
	if s.attempt != nil {
		s.attempt(a)
	}
}

// The words of the model in the order of their numbers, each with every shape
// that it can take.
var (
	modelBelongs = [][]shape{
		{
			{attempt: func(a *Attempt) { a.SecretHash[9]++ }},
			{attempt: func(a *Attempt) { a.Client = "shop" }},
			{attempt: func(a *Attempt) { a.Transport = InCookie }},
		},
		{{}},
	}
	modelProof = [][]shape{
		{{}},
		{
			{family: bound(ToDPoP("thumb"))},
			{family: bound(ToDPoP("thumb")), attempt: proof(Proof{DPoP: "other", Secret: true})},
			{family: bound(ToCertificate("print")), attempt: proof(Proof{DPoP: "print"})},
			{family: bound(ToClient)},
		},
		{{family: bound(ToClient), attempt: proof(Proof{Secret: true})}},
		{
			{family: bound(ToDPoP("thumb")), attempt: proof(Proof{DPoP: "thumb"})},
			{family: bound(ToCertificate("print")), attempt: proof(Proof{Certificate: "print"})},
			{family: bound(ToClient), attempt: proof(Proof{ClientKey: true})},
		},
	}
	modelLife = [][]shape{
		{{}},
		{{family: ended}, {family: disabled}, {family: below}},
		{
			{family: func(f *Family) { f.AbsoluteEnd = born }},
			{family: func(f *Family) { f.UsedAt = born.Add(-31 * day) }},
		},
	}
	modelKey = []shape{
		{family: fresh},
		{family: fresh, attempt: withKey},
		{family: stale, attempt: withKey},
		{family: stale, attempt: withOther},
	}
	modelLate = []struct {
		policy LateRetry
		ago    time.Duration // since the last favour; 0: never
	}{{RefuseLate, 0}, {LateOnceADay, 0}, {LateOnceADay, time.Hour}}
)

// modelCase is one situation, made concrete.
type modelCase struct {
	family  Family
	attempt Attempt
	now     time.Time
	policy  Policy
}

// rest makes the last seven parts of a situation concrete, in the order of the
// table; each is a number of the model.
func (c *modelCase) rest(window, foreigner, key, saw, streak, late, enforce int) {
	c.now, c.policy = born.Add(window90[window]), strict()
	if foreigner == 1 {
		foreign(&c.attempt)
	}
	modelKey[key].given(&c.family, &c.attempt)
	c.family.ForeignSeen, c.family.ForeignStreak = saw == 1, int16(streak)
	c.policy.LateRetry = modelLate[late].policy
	if ago := modelLate[late].ago; ago > 0 {
		c.family.LateAt = c.now.Add(-ago)
	}
	if enforce == 0 {
		c.policy.LockStep = ReportLockStep
	}
}

// window90 is the age of the head: past the window, and within it.
var window90 = []time.Duration{window + tick, window}

// modelPositions are the generations presented to a head of 5.
var modelPositions = []int32{5, 6, 4, 3}

func readModel(t *testing.T) modelTable {
	t.Helper()
	text, err := os.ReadFile("../../docs/model/judge.json")
	if err != nil {
		t.Fatal(err)
	}
	var table modelTable
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("../../docs/model/judge.pml")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(rules); table.Rules != hex.EncodeToString(sum[:]) {
		t.Fatal("docs/model/judge.json is not of docs/model/judge.pml as it stands; run scripts/model --write")
	}
	return table
}

// TestJudge_agreesWithTheFormalModel walks every situation of the model through
// Judge, in every concrete shape that the model's words stand for, so that it
// fails when either side changes alone.
func TestJudge_agreesWithTheFormalModel(t *testing.T) {
	table := readModel(t)
	if want := 2 * 4 * 3 * 2 * 4; len(table.Lines) != want {
		t.Fatalf("the table has %d lines, want %d", len(table.Lines), want)
	}
	rows, judged, complaints := map[int]bool{}, 0, 0
	seen := map[[5]int]bool{}
	for _, line := range table.Lines {
		seen[line.Situation] = true
		b, p, l, r, g := line.Situation[0], line.Situation[1], line.Situation[2], line.Situation[3], line.Situation[4]
		at := 0
		each([]int{2, 2, 4, 2, 3, 3, 2}, func(n []int) {
			letter := line.Outcomes[0]
			if len(line.Outcomes) > 1 {
				letter = line.Outcomes[at]
			}
			at++
			want := table.Outcomes[letter-'a']
			rows[want.Row] = true
			proofs := modelProof[p]
			if b == 0 {
				proofs = proofs[:1] // a stranger's token: nothing else is looked at
			}
			for i, proven := range proofs {
				// The shapes of the other words take turns.
				var c modelCase
				c.family = living()
				c.family.Rotates = r == 1
				modelLife[l][(at+i)%len(modelLife[l])].given(&c.family, &c.attempt)
				c.attempt = presents(c.family, modelPositions[g])
				proven.given(&c.family, &c.attempt)
				modelBelongs[b][at%len(modelBelongs[b])].given(&c.family, &c.attempt)
				c.rest(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
				judged++
				out := Judge(&c.family, c.attempt, c.now, c.policy)
				if !c.agrees(out, want) && complaints < 10 {
					complaints++
					t.Errorf("situation %v %v: the model says %+v, Judge says row %d (%s, %s), ends %t, next %+v",
						line.Situation, n, want, out.Row, out.Verdict, out.Reason, out.Ends, out.Next)
				}
			}
		})
		if len(line.Outcomes) > 1 && len(line.Outcomes) != at {
			t.Fatalf("situation %v has %d outcomes, want %d", line.Situation, len(line.Outcomes), at)
		}
	}
	if len(seen) != len(table.Lines) {
		t.Errorf("the table has %d different lines of %d", len(seen), len(table.Lines))
	}
	for row := 1; row <= 12; row++ {
		if !rows[row] {
			t.Errorf("no situation of the model reaches row %d", row)
		}
	}
	t.Logf("%d questions put to Judge", judged)
}

// each calls visit with every choice of numbers below the given sizes; the last
// one turns fastest.
func each(sizes []int, visit func([]int)) {
	n := make([]int, len(sizes))
	for {
		visit(n)
		i := len(n) - 1
		for i >= 0 && n[i] == sizes[i]-1 {
			n[i] = 0
			i--
		}
		if i < 0 {
			return
		}
		n[i]++
	}
}

// modelVerdicts is what each row says, by the specification.
var modelVerdicts = []Verdict{
	1: Unknown, 2: Unproven, 3: Revoked, 4: Expired, 5: Kept, 6: Rotated, 7: Rotated,
	8: Replayed, 9: Replayed, 10: Replayed, 11: Replayed, 12: Reused,
}

// agrees compares an outcome and its effect on the columns that the model knows.
func (c *modelCase) agrees(out Outcome, want modelOutcome) bool {
	if out.Row != want.Row || out.Verdict != modelVerdicts[want.Row] || out.Ends != want.Ends {
		return false
	}
	f, n := c.family, out.Next
	switch {
	case want.Row == 1:
		return !out.Writes && !want.Moves && !want.Marks && !want.Favour
	case want.Moves:
		f.Generation, f.ForeignStreak, f.KeyFresh, f.ForeignSeen = c.attempt.Generation+1, int16(want.Streak), want.Fresh, false
		f.Sender, f.RetryKey, f.HeadBorn = c.attempt.Sender, c.attempt.RetryKey, c.now
	default:
		f.ForeignSeen = f.ForeignSeen || want.Marks
		if want.Favour {
			f.LateAt = c.now
		}
	}
	return n.Generation == f.Generation && n.ForeignStreak == f.ForeignStreak && n.KeyFresh == f.KeyFresh &&
		n.ForeignSeen == f.ForeignSeen && n.Sender == f.Sender && n.RetryKey == f.RetryKey &&
		n.HeadBorn.Equal(f.HeadBorn) && n.LateAt.Equal(f.LateAt)
}

// The model's answering rows are Judge's answering verdicts.
func TestJudge_theModelKnowsWhichRowsAnswer(t *testing.T) {
	var answering []int
	for row := 1; row < len(modelVerdicts); row++ {
		if modelVerdicts[row].Answers() {
			answering = append(answering, row)
		}
	}
	if want := []int{5, 6, 7, 8, 9, 10, 11}; !slices.Equal(answering, want) {
		t.Errorf("rows %v answer; the model's ANSWERS says %v", answering, want)
	}
}
