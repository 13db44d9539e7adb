// How long work is told to end early.
#pragma once

#include <functional>

namespace kvtier {

// True once what is being done should end, and from then on. Asked often, from any thread and from
// several at once, so it is cheap: a flag, a clock. Where it may be empty, that is never.
using StopCheck = std::function<bool()>;

}  // namespace kvtier
