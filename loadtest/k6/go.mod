// k6 as a tool of this folder alone: `go tool k6 run smoke.js`. Installing it by version does not work, because the
// registry's list of versions does not name it.
module foretide.example/loadtest/k6

go 1.26

tool go.k6.io/k6/v2

require go.k6.io/k6/v2 v2.2.0
