#!/bin/sh
# A real window under Xvfb: opens a trace, zooms, looks, goes from the table of operators to a node on
# the timeline and in the graph and back, closes; opens a broken file; compares two traces, one of which
# has a node that is slower: aligns them, goes to the row, swaps, closes, and finds it all again.
# usage: viewer/tests/xvfb.sh [VIEWER] [TRACE]
set -u
cd "$(dirname "$0")/../.." || exit 1
viewer=${1:-target/debug/llmtrace-viewer}
trace=${2:-}

skip() { echo "SKIPPED window under Xvfb: $1"; exit 0; }
for tool in Xvfb xdotool import identify; do
	command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ -x "$viewer" ] || skip "$viewer is not built"
if [ -z "$trace" ]; then
	for candidate in sample-traces/gemma3-270m-2t.llmtrace sample-traces/*.llmtrace; do
		[ -f "$candidate" ] && trace=$candidate && break
	done
fi
[ -n "$trace" ] && [ -f "$trace" ] || skip "no sample trace"

work=$(mktemp -d)
server=
app=
cleanup() {
	[ -n "$app" ] && kill "$app" 2>/dev/null
	[ -n "$server" ] && kill "$server" 2>/dev/null
	[ -z "${KEEP:-}" ] && rm -rf "$work"
}
trap cleanup EXIT INT TERM
fail() { echo "FAILED window under Xvfb: $1"; [ -f "$work/log" ] && tail -5 "$work/log"; exit 1; }

# The server picks a free display and writes its number. Without -noreset it starts over when its
# last client goes, and drops whoever connects at that moment.
Xvfb -displayfd 3 -noreset -screen 0 1280x720x24 -nolisten tcp 3>"$work/display" 2>"$work/server" &
server=$!
for _ in $(seq 50); do [ -s "$work/display" ] && break; sleep 0.1; done
[ -s "$work/display" ] || skip "Xvfb does not start"
DISPLAY=:$(cat "$work/display")
export DISPLAY LIBGL_ALWAYS_SOFTWARE=1 XDG_DATA_HOME="$work/data"
unset WAYLAND_DISPLAY
for _ in $(seq 50); do xdotool getdisplaygeometry >/dev/null 2>&1 && break; sleep 0.1; done
xdotool getdisplaygeometry >/dev/null 2>&1 || skip "no connection to Xvfb: $(tail -n 1 "$work/server")"

# start TITLE ARGS…: waits until a window has the title (a pattern, ASCII only).
start() {
	title=$1
	shift
	"$viewer" "$@" >"$work/log" 2>&1 &
	app=$!
	window=
	for _ in $(seq 150); do
		kill -0 "$app" 2>/dev/null || fail "the app ended"
		window=$(xdotool search --name "$title" 2>/dev/null | head -n 1)
		[ -n "$window" ] && break
		sleep 0.1
	done
	[ -n "$window" ] || fail "no window named $title"
	xdotool windowsize "$window" 1280 720 windowmove "$window" 0 0 windowfocus "$window" 2>/dev/null
}
# colours NAME: takes a picture; prints how many colours it has.
colours() {
	import -window root "$work/$1.png" || fail "no picture"
	identify -format '%k' "$work/$1.png"
}
# at least N colours, within five seconds.
shows() {
	for _ in $(seq 25); do
		count=$(colours "$1")
		[ "$count" -ge "$2" ] && return 0
		sleep 0.2
	done
	fail "$1 shows $count colours, not $2"
}
differs() { ! cmp -s "$work/$1.png" "$work/$2.png" || fail "$2 looks like $1"; }

start "$(basename "$trace")" "$trace" --view timeline
shows whole 1200
xdotool mousemove 600 260
for _ in 1 2 3 4 5 6; do xdotool click 4; done
sleep 1
shows zoomed 1200
differs whole zoomed
xdotool keydown d; sleep 0.4; xdotool keyup d
sleep 0.8
shows panned 1200
differs zoomed panned
xdotool key 1
sleep 1
shows overview 1200
differs panned overview
# From a command by name to the table, to a node on the timeline, to the graph, and back.
xdotool key ctrl+k; sleep 1
xdotool type operators; sleep 1
xdotool key Return
sleep 1
shows operators 900
differs overview operators
xdotool mousemove 90 160 click 1; sleep 1
shows chosen 900
differs operators chosen
xdotool key ctrl+f; sleep 1
xdotool type ffn_up-3; sleep 1
xdotool key Return; sleep 1
shows selected 1200
xdotool key Escape; sleep 0.2
xdotool key 4
sleep 1
shows graph 600
differs selected graph
xdotool key alt+Left
sleep 1
shows back 1200
differs graph back
kill -0 "$app" 2>/dev/null || fail "the app ended"
# Ctrl+C puts what is selected on the clipboard; a picture is what the window shows.
if command -v xclip >/dev/null; then
	xdotool key ctrl+c; sleep 1
	xclip -selection clipboard -o >"$work/copied" 2>/dev/null
	grep -q "ffn_up-3" "$work/copied" || fail "the selection was not copied: $(cat "$work/copied")"
fi
# A second start opens a second window; files that it opened are remembered by both.
first=$app
cp "$trace" "$work/second.llmtrace"
start "second.llmtrace" "$work/second.llmtrace"
kill -0 "$first" 2>/dev/null || fail "a second start ended the first"
[ "$(xdotool search --onlyvisible --name llmtrace | wc -l)" -ge 2 ] || fail "no second window"
shows second 300
xdotool key ctrl+q
wait "$app" || fail "the second window did not close well"
app=$first
grep -q second.llmtrace "$work/data/llmtrace/viewer.json" || fail "the file is not remembered"
window=$(xdotool search --onlyvisible --name "$(basename "$trace")" | head -n 1)
xdotool windowfocus "$window"; sleep 0.8
xdotool key ctrl+w
sleep 1
shows closed 100
differs back closed
kill "$app"; wait "$app" 2>/dev/null
app=

echo "no trace" >"$work/broken.llmtrace"
start "broken.llmtrace" "$work/broken.llmtrace"
shows broken 300
kill -0 "$app" 2>/dev/null || fail "the app ended on a broken file"
kill "$app"; wait "$app" 2>/dev/null
app=

# titled PATTERN: waits until the window's title fits.
titled() {
	for _ in $(seq 50); do
		xdotool getwindowname "$window" 2>/dev/null | grep -q "$1" && return 0
		sleep 0.1
	done
	fail "the title is $(xdotool getwindowname "$window"), not $1"
}
# kept PATTERN: waits until what is kept of traces has it.
kept() {
	for _ in $(seq 100); do
		cat "$work"/data/llmtrace/sessions/*.json 2>/dev/null | grep -q "$1" && return 0
		sleep 0.1
	done
	fail "nothing that is kept has $1"
}
# Two runs with a planted regression where the generator is built, else the recorded pair.
synth=$(dirname "$viewer")/examples/synth
before=$work/before.llmtrace
after=$work/after.llmtrace
if [ -x "$synth" ]; then
	"$synth" --spans 30000 --seed 1 -o "$before" 2>/dev/null &&
		"$synth" --spans 30000 --seed 2 --slow ffn_up-7=+40% -o "$after" 2>/dev/null || fail "no traces"
elif [ -f sample-traces/gemma3-270m-preempted-2t.llmtrace ]; then
	cp sample-traces/gemma3-270m-undisturbed-2t.llmtrace "$before"
	cp sample-traces/gemma3-270m-preempted-2t.llmtrace "$after"
else
	skip "no pair of traces"
fi
start "before.llmtrace and after.llmtrace" "$before" "$after"
shows pair 1200
kept '"by": "token"'
# A little to the right, then to the phases.
xdotool mousemove 600 200
xdotool key period; sleep 0.8
kept '"by": "hand"'
xdotool key ctrl+k; sleep 1
xdotool type --delay 60 "align by phase"; sleep 1.5
xdotool key Return
kept '"by": "phase"'
# The first row of the table: a typical execution on both sides, and durations.
xdotool mousemove 60 540; sleep 1
shows aligned 1200
xdotool click 1; sleep 1
shows row 1200
differs aligned row
xdotool key x
titled "after.llmtrace and before.llmtrace"
kept 'before.llmtrace'
shows swapped 1200
differs row swapped
xdotool key ctrl+w
titled "^llmtrace$"
kill "$app"; wait "$app" 2>/dev/null
app=
# The first one alone: the second one comes with it, as they were.
start "after.llmtrace" "$after"
titled "after.llmtrace and before.llmtrace"
shows again 1200
kept '"compared"' # by phase, or where a row's executions lie apart, by hand
kill -0 "$app" 2>/dev/null || fail "the app ended"
if [ -n "${KEEP:-}" ]; then echo "pictures are in $work"; fi
echo "PASSED window under Xvfb: $trace"
