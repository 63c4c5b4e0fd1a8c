package main

// mutant is one bug put back on purpose: the text old of a file becomes new.
// check is the test that has to catch it, in the package pkg.
type mutant struct {
	name     string
	file     string
	old, new string
	pkg      string
	check    string
}

// mutants in the order of the table in docs/mutants.md.
var mutants = []mutant{
	{
		"check, then update, in place of compare-and-set", "internal/store/postgres/batch.go",
		"(ARRAY[a.id]) AND f.generation = a.generation AND f.head_key = a.key", "(ARRAY[a.id]) AND f.head_key = a.key",
		"./internal/store/postgres", "TestRotateBatch_throughAPooler",
	},
	{
		"a role that was taken away stays in the families", "migrations/postgres/0005_rotation_reads_one_row.sql",
		"SET roles = NEW.roles, tokens_from", "SET roles = roles, tokens_from",
		"./internal/store/postgres", "TestRotateBatch_knowsTheUserOfTheMoment",
	},
	{
		"a replay under a root key that another node has revoked", "internal/store/postgres/refresh.go",
		"if c.Stale(r.revision) {\n", "if false {\n",
		"./internal/store/postgres", "TestPostgres/postgres/families/keysOlderThanTheRevocationOfARootKey",
	},
	{
		"whoever waited for the row goes on with the keys from before", "internal/store/postgres/refresh.go",
		"if c.Stale(r.revision) { // a root", "if false { // a root",
		"./internal/store/postgres", "TestRedeem_judgesByWhatWasCommittedWhileItWaited",
	},
	{
		"a node with old keys carries a family over to the next root key", "internal/store/postgres/batch.go",
		"roots_revision <= $15", "roots_revision <= $15 OR true",
		"./internal/store/postgres", "TestPostgres/postgres/families/keysOlderThanTheRevocationOfARootKey",
	},
	{
		"judged without the row lock, then written", "internal/store/postgres/refresh.go",
		"SELECT FROM families WHERE id = $1 FOR UPDATE`", "SELECT FROM families WHERE id = $1`",
		"./internal/store/postgres", "TestPostgres/postgres/concurrency",
	},
	{
		"a second successor inside the retry window", "internal/refresh/judge.go",
		"case previous && inWindow:\n\t\treturn out.is(10, Replayed, ReasonWindow)",
		"case previous && inWindow:\n\t\tout.rotate(a, f.Generation+1)\n\t\treturn out.is(10, Rotated, ReasonWindow)",
		"./internal/refresh", "TestJudge_everyRowAndBorder",
	},
	{
		"a retry window without end", "internal/refresh/judge.go",
		"inWindow := p.Outages.Age(f.HeadBorn, now) <= p.RetryWindow", "inWindow := !f.HeadBorn.After(now.Add(p.RetryWindow))",
		"./internal/refresh", "TestJudge_everyRowAndBorder",
	},
	{
		"the time that a commit took counts against the window", "internal/refresh/queue.go",
		"q.took(from, q.clock(), err)", "_ = from",
		"./internal/refresh", "TestRedeem_aRetryThatWaitedForACommitIsNotLate",
	},
	{
		"what is known of outages when a request comes, and not when it is judged", "internal/refresh/rotator.go",
		"\tc.Policy.Outages = r.outagesOf(c.Attempt.Family)\n", "",
		"./internal/refresh", "TestRedeem_aRetryThatWaitedForACommitIsNotLate",
	},
	{
		"the lock-step rule ignored", "internal/refresh/judge.go",
		"lockStep := foreign && f.ForeignStreak >= lockStepStreak", "lockStep := foreign && f.ForeignStreak > lockStepStreak",
		"./internal/refresh", "TestStory_thiefAndVictimInLockStep",
	},
	{
		"an old token is refused and its family lives on", "internal/refresh/judge.go",
		"\to.Ends = true\n\treturn o.is(12,", "\treturn o.is(12,",
		"./internal/refresh", "TestJudge_everyRowAndBorder",
	},
	{
		"a key that is always the same proves a retry", "internal/refresh/judge.go",
		"case previous && f.KeyFresh && secret.Equal", "case previous && secret.Equal",
		"./internal/refresh", "TestStory_aClientThatAlwaysSendsTheSameKeyProvesNothing",
	},
	{
		"whoever lacks the bound key ends the family", "internal/refresh/judge.go",
		"\tcase !a.Proof.proves(f.Binding):\n\t\treturn out.is(2, Unproven, ReasonUnproven)\n", "",
		"./internal/refresh", "TestJudge_everyRowAndBorder",
	},
	{
		"the MAC is not compared", "internal/refresh/token.go",
		"if !hmac.Equal(want[:], raw[atMAC:]) {", "if want == [16]byte{} {",
		"./internal/refresh", "TestParse_everyMangledTokenIsForged",
	},
	{
		"a node that lacks a root key calls its tokens forged", "internal/refresh/token.go",
		"\tif err := roots.Reread(ctx); err != nil {\n\t\treturn secret.Bytes{}, fmt.Errorf(\"refresh root key %d is unknown here: %w\", number, err)\n\t}\n",
		"\tif err := roots.Reread(ctx); err != nil {\n\t\treturn secret.Bytes{}, fmt.Errorf(\"%w: %w\", ErrForged, err)\n\t}\n",
		"./internal/refresh", "TestRedeem_troubleWithTheRingIsNoRefusal",
	},
	{
		"outages count against the honest", "internal/refresh/outages.go",
		"\t\t\tage -= d\n", "\t\t\tage -= 0 * d\n",
		"./internal/refresh", "TestOutages_ageCountsOnlyTimeInWhichAnAnswerCouldBeGiven",
	},
	{
		"equal tokens are all put into one statement", "internal/refresh/queue.go",
		"\t\t\tcontinue\n\t\t}\n\t\tseen[s.call", "\t\t}\n\t\tseen[s.call",
		"./internal/refresh", "TestQueue_ofEqualTokensTheFirstIsTheAttempt",
	},
	{
		"the longest outages ever are remembered in place of the last", "internal/refresh/outages.go",
		"> windowReach {", "> 1<<62 {",
		"./internal/refresh", "TestOutages_whatMattersNoMoreMakesRoom",
	},
	{
		"a clock that has leapt ahead logs people out", "internal/refresh/rotator.go",
		"\tif r.doubts(out, call.Policy) {", "\tif false {",
		"./internal/refresh", "TestRedeem_byAClockThatLeaps",
	},
	{
		"a request whose client has gone ends a session", "internal/refresh/doubt.go",
		"case <-s.Done():", "case <-make(chan struct{}):",
		"./internal/refresh", "TestRedeem_anOldTokenWhoseSenderHasGoneEndsNothing",
	},
	{
		"whoever hangs up may try old tokens without end", "internal/refresh/doubt.go",
		"if !stays(s) && r.spares.Wait(c.Attempt.Family, r.wall()) == 0 {", "if !stays(s) {",
		"./internal/refresh", "TestRedeem_anOldTokenWhoseSenderHasGoneEndsNothing",
	},
	{
		"a token that waited here while its session went on is a theft", "internal/refresh/doubt.go",
		"if first.Next.HeadBorn.After(s.came.Add(listenFor)) {", "if first.Next.HeadBorn.IsZero() {",
		"./internal/refresh", "TestRedeem_aTokenThatWaitedHereEndsNothing",
	},
	{
		"a node that has stood still knows thieves at once", "internal/refresh/pulse.go",
		"return overdue(beat, now) || woken != 0 &&", "return overdue(beat, now) || woken < 0 &&",
		"./internal/refresh", "TestRedeem_aNodeThatHasStoodStillCallsNobodyAThief",
	},
	{
		"a family flies in two batches at once", "internal/refresh/queue.go",
		"q.flying < q.limits.InFlight && q.air[family] == 0 {", "q.flying < q.limits.InFlight {",
		"./internal/refresh", "TestQueue_aFamilyInTheAirWaitsForItsFlight",
	},
	{
		"nobody reads the keys while all families are read", "internal/keys/run.go",
		"r.scan.Go(func() { r.askRoots(ctx, ring, now) })", "r.askRoots(ctx, ring, now)",
		"./internal/keys", "TestRun_readsTheRingWhileAllFamiliesAreRead",
	},
	{
		"a batch is given up before the database has answered", "internal/refresh/queue.go",
		"ctx, cancel := context.WithTimeout(context.Background(), batchPatience)", "ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)",
		"./internal/refresh", "TestQueue_noRequestCancelsTheBatch",
	},
	{
		"trouble of a batch is judged again, as if nothing had been committed", "internal/refresh/rotator.go",
		"\tdefault:\n\t\treturn Outcome{}, err\n", "\tdefault:\n\t\treturn r.judgeAlone(s, c, r.suspects)\n",
		"./internal/refresh", "TestQueue_unknownIsTroubleForEveryMemberAndNobodyIsJudgedAlone",
	},
	{
		"trouble with the database is told as a refusal", "internal/refresh/rotator.go",
		"\t\t}\n\t\treturn Redemption{Family: token.family}, fault.Trouble(err)",
		"\t\t}\n\t\treturn Redemption{Outcome: Outcome{Verdict: Unknown, Reason: ReasonNoFamily, Row: 1}}, nil",
		"./test/prove", "TestFaults_atEveryMessage/postgres/cut$",
	},
	{
		"a batch rotates families that have ended", "internal/store/postgres/batch.go",
		"\t\tAND f.ended_at IS NULL\n", "",
		"./test/prove", "TestHistories_areLinearizable/postgres/whole_network",
	},
	{
		"a batch is acknowledged by its rows, before it is committed", "internal/store/postgres/batch.go",
		"\tif _, err := result.Close(); err != nil {\n\t\treturn err\n\t}\n\treturn read\n}\n\n// flyPooled",
		"\t_, _ = result.Close()\n\treturn read\n}\n\n// flyPooled",
		"./test/prove", "TestCommit_thatFailsIsNotAcknowledged",
	},
	{
		"a commit with a warning is acknowledged", "internal/store/postgres/db.go",
		"\tif message, ok := c.CustomData()[warningKey]; ok {", "\tif message, ok := c.CustomData()[warningKey]; ok && message == nil {",
		"./internal/store/postgres", "TestRotateBatch_aWarningMeansUnknown",
	},
	{
		"COMMIT ends with the request that asked for it", "internal/store/postgres/db.go",
		"\tctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)\n\tdefer cancel()\n\tforgetWarning",
		"\tctx, cancel := context.WithTimeout(ctx, patience)\n\tdefer cancel()\n\tforgetWarning",
		"./internal/store/postgres", "TestEndSessions_aRequestThatGoesAwayCancelsNothing",
	},
	{
		"a 503 takes the cookie away", "internal/httpd/authapi/refresh.go",
		"\tif err != nil {\n\t\treturn err\n\t}\n\ts.Outcome, s.Reason", "\tif err != nil {\n\t\td.jar.expire(w)\n\t\treturn err\n\t}\n\ts.Outcome, s.Reason",
		"./internal/httpd", "TestStoreTrouble_isNever4xxAndTakesNoCookie",
	},
	{
		"a key signs before its lead is over", "internal/keys/plan.go",
		"return laterOf(now.Add(p.Lead), active.ActiveFrom.Add(p.RotateEvery))", "return now",
		"./internal/keys", "TestPlan$",
	},
	{
		"a retiring key leaves the set at once", "internal/keys/timeline.go",
		"case Published, Active, Retiring:\n", "case Published, Active:\n",
		"./internal/keys", "TestRing_rotatesByTheClockAlone",
	},
	{
		"a retired key stays for less than its last token lives", "internal/keys/policy.go",
		"d := signsFor + 2*p.MaxAge + skew", "d := 2*p.MaxAge + skew",
		"./internal/keys", "TestTimeline_walksTheTableAndItsBorders",
	},
	{
		"a revoked key goes on signing", "internal/keys/timeline.go",
		"case l.Key.RevokedAt != nil: // at once, on whichever clock", "case l.Key.RevokedAt != nil && now.IsZero():",
		"./internal/keys", "TestRevoke_aCompromisedStoreTakesTheStandbyToo",
	},
	{
		"keys are erased by a clock that has leapt ahead", "internal/keys/run.go",
		"began.Before(r.restFrom), !r.steady():", "began.Before(r.restFrom):",
		"./internal/keys", "TestTend_erasesNoKeyByAClockThatLeaps",
	},
	{
		"this node's own clock, set while it waited for an answer, passes for how long it waited", "internal/keys/clock.go",
		"most := least + g.took", "most := g.store.Sub(g.began.Round(0))",
		"./internal/keys", "TestSight_aClockThatIsSetDuringARead",
	},
	{
		"a node signs with a ring that it cannot read any more", "internal/keys/ring.go",
		"age > FreshFor {", "age > 1000*FreshFor {",
		"./internal/keys", "TestRing_signsForThirtySecondsAfterItsLastRead",
	},
	{
		"iat lies in the future", "internal/token/token.go",
		"issued := now.Truncate(time.Second)", "issued := now.Truncate(time.Second).Add(time.Second)",
		"./internal/token", "TestMint_whatVerifiersRelyOn",
	},
	{
		"the access token has no typ", "internal/token/token.go",
		"keys.Compact(Type, kid,", "keys.Compact(\"\", kid,",
		"./internal/token", "TestMint_whatVerifiersRelyOn",
	},
	{
		"an access token outlives its session", "internal/token/token.go",
		"if !g.Until.IsZero() && expires.After(g.Until) {", "if g.Until.Equal(now) {",
		"./internal/token", "TestMint_whatVerifiersRelyOn",
	},
	{
		"a verifier forgets a ban by its own clock alone", "verify/revoked.go",
		"issued.Before(now) {", "issued.IsZero() {",
		"./verify", "TestRevocations_take",
	},
	{
		"what passed by a clock that was ahead is told no more when it is back", "internal/revocation/feed.go",
		"if !set && f.readAt", "if set && f.readAt",
		"./internal/revocation", "TestFeed_aClockThatComesBackBringsEntriesBack",
	},
	{
		"an end that the feed does not tell of", "internal/store/postgres/ends.go",
		"ended.status_index FROM ended)", "ended.status_index FROM ended WHERE false)",
		"./internal/store/postgres", "TestPostgres/postgres/sessions/endOneOthersAll",
	},
	{
		"an older version that ends a session while this one runs", "migrations/postgres/0007_older_versions_tell.sql",
		"WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL AND", "WHEN (false AND",
		"./internal/store/postgres", "TestRevocations_ofAnOlderVersion",
	},
	{
		"what goes at once is tried again with what pgx kept of the first time", "internal/store/postgres/db.go",
		"\treturn db.tryAgain(ctx, name, func() error {\n\t\treturn db.committing(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {\n\t\t\tvar b pgx.Batch\n" +
			"\t\t\tb.Queue(\"begin isolation level read committed\")\n\t\t\tqueueBounds(&b, lockWait)\n\t\t\tqueue(&b)\n",
		"\tvar kept pgx.Batch\n\tqueue(&kept)\n\treturn db.tryAgain(ctx, name, func() error {\n\t\treturn db.committing(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {\n\t\t\tvar b pgx.Batch\n" +
			"\t\t\tb.Queue(\"begin isolation level read committed\")\n\t\t\tqueueBounds(&b, lockWait)\n\t\t\tb.QueuedQueries = append(b.QueuedQueries, kept.QueuedQueries...)\n",
		"./test/prove", "TestFaults_whatGoesAtOnceIsTriedAgain",
	},
}
