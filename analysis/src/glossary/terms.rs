//! The terms, by topic.

use super::{Term, Topic};

macro_rules! terms {
    ($($topic:ident { $($name:literal, $report:literal: $is:literal $(= $formula:literal)?;)+ })+) => {
        /// All terms.
        pub static TERMS: &[Term] = &[$($(Term {
            name: $name,
            is: $is,
            formula: concat!($($formula)?),
            topic: Topic::$topic,
            in_report: $report,
        }),+),+];
    };
}

terms! {
    Recording {
        "recorded", true: "Time of the recording" = "last recorded event − first one";
        "begin", false: "When it began" = "time of its first event − start of the recording";
        "level", true: "How much was recorded: token (calls), graph (and graph runs), op (and nodes by thread), thread (and waits at barriers)";
        "threads", false: "Places in the thread pool that computes graphs";
        "token", false: "One micro-batch: generating, one token for each sequence in it";
        "prefill", true: "Reading a prompt: calls of which a micro-batch has more tokens than sequences";
        "decode", true: "Generating: calls with one token for each sequence";
        "call", true: "One call of llama_decode or llama_encode; in a recording without calls, one micro-batch";
        "micro-batch", false: "Tokens that one graph computes at once: a part of a call's batch";
        "graph run", false: "One computation of a compute graph, by all threads";
        "node", false: "One operation of a compute graph, named after the tensor that it gives";
        "operator", true: "What a node computes, as ggml names it; fused nodes together, as in RMS_NORM+MUL";
        "op span", false: "One node computed by one thread: begin, end of computing, end of waiting";
        "execution", false: "One node computed once by all its threads";
        "layer", false: "The number in a tensor's name";
        "module", false: "Part of a layer: attention, feed-forward, mixture, norm, …, by names of nodes and of weights they read";
        "lost events", true: "Events for which there was no room between kernel and recorder: times near them may be wrong" = "counted by kind and CPU";
        "file size", false: "Bytes of the file";
    }
    Speed {
        "tokens/s, decode", true: "Speed of generating; time between calls (sampling) does not count, as in llama.cpp's own report" = "tokens of decode calls ÷ time inside them";
        "tokens/s, prefill", true: "Speed of reading prompts" = "tokens of prefill calls ÷ time inside them";
        "time per token", true: "How long a decode call takes, from its entry to its return" = "return − entry; median, 95 % and longest over calls";
        "between calls, time", false: "From the end of a call to the begin of the decode call after it on the same thread: sampling and whatever else the program does";
        "recording cost", true: "Estimate of what recording adds to a token on the thread with the most probe hits" = "hits × measured price of a hit ÷ tokens";
        "tokens/s without recording", true: "Estimate of the speed without probes" = "tokens ÷ (time inside decode calls − recording cost)";
        "percentile", true: "By nearest rank: a duration that occurred, and that so many in a hundred do not exceed";
        "median", false: "Half are at most this long" = "50th percentile";
        "mean", false: "Sum divided by number";
        "σ", false: "How far durations lie from their mean: the standard deviation" = "√(Σ (duration − mean)² ÷ number)";
        "count", false: "How often it ran: node executions, or op spans by thread";
    }
    Operators {
        "time", true: "Computing, summed over threads; includes time in which the kernel gave the CPU to somebody else" = "Σ (end of computing − begin)";
        "wait", true: "From the end of computing until the last thread arrived at the barrier that closes the node, summed over threads" = "Σ (arrival of the last − own end of computing)";
        "share", true: "Part of the computing of all" = "time ÷ time of all rows";
        "wait share", true: "Waiting as a part of a thread's time" = "wait ÷ (time + wait)";
        "critical", false: "Wall time of executions: what a node costs the run" = "Σ (last thread's end of computing − first thread's begin)";
        "wall", false: "Wall time of an execution" = "last thread's end of computing − first thread's begin";
        "each", false: "Mean wall time of an execution" = "wall ÷ count";
        "change", false: "How much longer an execution takes than in the part that was kept to compare with" = "mean ÷ mean of that part − 1";
        "critical path", false: "The chain of nodes, each needing the one before, that takes longest" = "longest path through the graph by wall time";
        "histogram", false: "How many executions took how long; each bar is 3 % wider in time than the one before";
        "distribution function", false: "Part of the executions that take at most so long";
    }
    Parts {
        "operators", true: "Computing of nodes" = "mean of the threads' computing";
        "barrier waits", true: "Threads waiting for the last one" = "wall time of nodes − mean of the threads' computing";
        "between nodes", true: "Releasing the threads, the loop over nodes, starting the graph" = "gaps between nodes of at most 20 µs";
        "graph build and call", true: "In the call, outside its graphs: preparing the batch, building the graph, setting inputs, fetching results" = "time of the call − its graphs";
        "copies", true: "Copies between backends; not recorded unless offloading was";
        "sampling", true: "Choosing the next token; where it was not recorded it is in between calls";
        "between calls", true: "From the end of the call before, on the same thread: what the program does by itself";
        "probes", true: "What recording cost, taken off the other parts" = "hits × measured price of a hit";
        "unattributed", true: "What no event explains: longer gaps, graphs without op spans, calls without graphs" = "time of the call − all other parts";
    }
    Limits {
        "verdict", true: "What explains half of the time, or twice as much as what comes next" = "largest share of the bounds below";
        "confidence", true: "How sure a verdict is: high is measured and clear, medium measured but close, low a guess with inputs missing";
        "memory-bound", true: "Bytes from memory take longest" = "bytes ÷ reading rate ≥ 1.5 × operations ÷ operation rate";
        "compute-bound", true: "Operations take longest" = "operations ÷ operation rate ≥ 1.5 × bytes ÷ reading rate";
        "synchronisation-bound", true: "More than half of the time is waiting at barriers, or more threads than CPUs take turns";
        "overhead-bound", true: "Nodes of less than 10 µs that are far from their roof, time between nodes and outside graphs";
        "I/O-bound", true: "Threads asleep in page faults; where these were not recorded, first executions that took twice as long as later ones";
        "mixed", true: "Two of these share the time";
        "unknown", true: "The trace does not tell, or most of the time is not explained";
        "intensity", false: "Operations for each byte that is read or written; reading weights once for every token makes it low" = "operations ÷ bytes, by shapes and types";
        "op/s", false: "Rate while the threads computed; ≤ where the trace gives only an upper bound" = "operations ÷ mean computing of the threads";
        "from memory", false: "What came from memory beside what operators need, where cache misses were counted: below 1 × a cache had some of it, above 1 × it came more than once, or more came with it" = "LLC-load-misses or cache-misses × 64 bytes ÷ bytes needed";
        "bytes/s", false: "Rate while the threads computed; ≤ where the trace gives only an upper bound" = "bytes ÷ mean computing of the threads";
        "ceiling", false: "What the host can do at most with as many threads, by llmtrace calibrate";
        "roof", false: "The least time in which the host could compute a node" = "max(bytes ÷ reading rate, operations ÷ operation rate)";
        "of roof", false: "How much of what the host could do is reached; above 100 % operands came from a cache" = "roof ÷ mean computing of the threads";
        "finding", true: "What costs at least a hundredth of a token, with numbers that speak for it and what to try" = "cost a token = time ÷ decode calls";
    }
    Around {
        "request", false: "A prompt and what was generated from it, on one sequence; for a server one use of a slot";
        "sequence", false: "The number under which a request's tokens stand in the KV cache";
        "prompt", false: "A request's share of the calls up to the one that gives its first output" = "Σ time of the call × its tokens in it ÷ tokens of the call";
        "output", false: "A request's share of the calls after its first output" = "as prompt";
        "TTFT", false: "Time to first token: a server's own figure also has waiting in its queue, and sampling" = "return of the call with the first output − begin of the first micro-batch";
        "TPOT", false: "Time per output token after the first" = "(last such return − first one) ÷ (outputs − 1)";
        "KV cells", false: "Places of the cache that hold a token; at least so many where the recording lacks the beginning";
        "acceptance", false: "Drafted tokens with which the target model agreed" = "accepted ÷ drafted";
        "split", false: "Part of a graph that the scheduler gives to one backend";
        "host time", false: "Time inside calls that compute a split, or only hand it to a device";
        "copy", false: "A tensor's content copied between the memory of backends" = "bytes; time of the call (an asynchronous one returns before the copy is done)";
        "expert use", false: "Tokens that the router sent to an expert" = "tokens × experts of each, summed = 100 %";
        "expert reads", false: "Micro-batches that used an expert: how often its weights were read";
        "variation", false: "How unevenly experts are used; 0 is even" = "standard deviation ÷ mean of tokens by expert";
        "selection", false: "The experts that the router chose for the tokens of one micro-batch in one layer; partial where some tokens are missing, lost or unknown where none is known" = "counted by layer and micro-batch";
        "share of tokens", false: "How much of a layer's work an expert has" = "tokens sent to the expert ÷ tokens of the layer, each counted once";
        "bytes read", false: "Weights of an expert that had to be read" = "bytes of the expert × micro-batches that used it";
        "expert time", false: "What an expert is taken to cost: an attribution, since a node computes all experts of a layer" = "computing of the layer's MUL_MAT_ID × the expert's part of what was sent to experts";
        "reuse distance", false: "How long until an expert is used again, which tells how long its weights should stay in a cache" = "micro-batches from one use of an expert in a layer to its next";
        "chosen together", false: "Two experts that were chosen for the same token" = "tokens for which both were chosen ÷ tokens of the layer";
        "top share", false: "What the most used experts take, as many of them as a token has" = "their tokens ÷ all tokens of the layer";
    }
    Machine {
        "counter", false: "What a thread counted while it computed a node; unknown where it was not read, scaled where events took turns";
        "counted", false: "What all threads counted while they computed an operator; ≥ where the count of some op spans is unknown" = "Σ (count at the end − count at the begin); in brackets ÷ op spans of which it is known";
        "counter rate", false: "What a counter or a sample says over time; a hole where nothing is known" = "counts of op spans ÷ time, spread evenly over each; samples as they were read";
        "runnable", false: "A thread that could run and had no CPU: somebody else had it";
        "preempted", false: "A thread that ran and was made to leave the CPU";
        "asleep", false: "A thread that waits to be woken, such as at a barrier that does not spin";
        "page fault", false: "Memory that was touched and not mapped; a major one waited for a disk";
        "resident", false: "Memory of a process that is in RAM";
        "frequency", false: "Clock of a CPU, as the kernel reports it";
        "energy", false: "Energy of the processor's package, sampled" = "difference of the counter ÷ time";
    }
    Comparison {
        "side A", false: "The run before: what a part takes a token" = "Σ over its nodes of the median over sampled calls of (wall ÷ tokens of the call)";
        "side B", false: "The run after" = "as side A";
        "part", false: "Nodes of one kind in all layers, or as the table groups them; or time that is in no node";
        "B − A", false: "What a part adds to the change: all of them add up to it" = "side B − side A";
        "% of A", false: "What a part changed by, beside itself" = "(B − A) ÷ side A";
        "± 95 %", false: "Half the width of the interval in which the change lies with 95 % confidence; * is beyond chance, at four standard errors" = "t × standard error, by a bootstrap over blocks of consecutive calls";
        "change of the median", false: "What the verdict is about: how much longer a token takes in B" = "median over calls of B ÷ median over calls of A − 1";
        "outside graphs", false: "Time in a call, but in no graph" = "median of (time of the call − its graphs)";
        "without a CPU", false: "Time in which threads could run, but others did; told apart when both runs have states of threads" = "median of the time that threads of a call were runnable";
        "rest", false: "What medians of parts leave out of the median of the whole: interruptions first of all" = "change of the median − all other parts";
        "difference", false: "How much longer a token took in B than its counterpart in A; of several in one bar their mean" = "time of B's token − time of A's";
        "waterfall", false: "From A's median to B's, part by part" = "side A + Σ (B − A) = side B";
    }
}
