// Runs the kernels on a CPU: the words of CUDA that they use, for a C++ compiler. Proves indexing, barriers and sums;
// says nothing about speed, about races between blocks or about the memory model of a GPU.
//
// Blocks run one after the other. The threads of a block are fibers that run in turn from barrier to barrier: the
// first, then the next, .. (or backwards, see `Order`), so a run is reproducible, and a value that crosses threads
// without a barrier shows in one of the two orders. Under ThreadSanitizer they are threads of the operating system.
//
// Every shared array is a block of memory of its own, filled with 0xFF (NaN in every floating type) when its block of
// threads starts: AddressSanitizer sees a step beyond its end, arithmetic sees a value that nobody wrote.
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace shim {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

struct Launch {
    Index grid;
    unsigned threads = 0;
    bool backwards = false;
};

// What ends a run: a mistake that a GPU would answer with a hang or with garbage.
struct Fault {
    std::string message;
};

inline std::string name_of(Index block)
{
    return "block (" + std::to_string(block.x) + ", " + std::to_string(block.y) + ", " + std::to_string(block.z) + ")";
}

// ---- shared memory ---------------------------------------------------------------------------------------------

class SharedMemory {
  public:
    // The array declared in this line of the source: made by the first thread that comes by.
    void *array(int line, size_t bytes)
    {
        std::lock_guard<std::mutex> guard(mutex_);
        auto &memory = arrays_[line];
        if (!memory) {
            void *fresh = nullptr;
            if (posix_memalign(&fresh, 16, bytes)) abort();
            memory.reset(fresh);
            memset(fresh, 0xFF, bytes);
        }
        return memory.get();
    }

  private:
    struct Free {
        void operator()(void *memory) const { free(memory); }
    };
    std::mutex mutex_;
    std::map<int, std::unique_ptr<void, Free>> arrays_;
};

// ---- the threads of one block ----------------------------------------------------------------------------------

// A copy to shared memory that was started and not yet waited for; from nullptr: zeros.
struct Copy {
    void *to;
    const void *from;
    bool committed;
};

class Block {
  public:
    Block(const Launch &launch, Index at)
        : launch(launch), at(at), copies(launch.threads), published(launch.threads)
    {
    }
    virtual ~Block() = default;
    virtual void run(const std::function<void()> &kernel) = 0;
    virtual void barrier(int line) = 0;
    // The barrier of one warp; a warp has 32 threads.
    virtual void warp_barrier(int line) = 0;

    const Launch launch;
    const Index at;
    SharedMemory shared;
    std::vector<std::vector<Copy>> copies; // of each thread
    std::vector<const void *> published;   // of each thread: what it shows to its warp

    // A mistake of a thread, thrown when the block has ended: not from a fiber, whose stack nobody unwinds.
    void remember(const std::string &mistake)
    {
        std::lock_guard<std::mutex> guard(mistake_mutex_);
        if (mistake_.empty()) mistake_ = mistake;
    }
    void throw_mistake() const
    {
        if (!mistake_.empty()) throw Fault{mistake_ + " in " + name_of(at)};
    }

  protected:
    [[noreturn]] void divergent(int line, const std::string &others) const
    {
        throw Fault{"divergent barrier: " + name_of(at) + " waits in line " + std::to_string(line) + ", " + others};
    }

  private:
    std::mutex mistake_mutex_;
    std::string mistake_;
};

struct Context {
    Block *block = nullptr;
    Index thread;
};
inline thread_local Context context;

#if defined(__SANITIZE_THREAD__)

// Threads of the operating system, so that ThreadSanitizer sees who wrote what before which barrier.
class ThreadedBlock : public Block {
  public:
    using Block::Block;

    void run(const std::function<void()> &kernel) override
    {
        std::vector<std::thread> threads;
        running_ = launch.threads;
        for (unsigned i = 0; i < launch.threads; ++i)
            threads.emplace_back([this, i, &kernel] {
                context = {this, {i, 0, 0}};
                kernel();
                std::lock_guard<std::mutex> guard(mutex_);
                --running_;
                stuck_ = stuck_ || all_.waiting > 0 || warps_[i / 32].waiting > 0;
                all_.changed.notify_all();
                warps_[i / 32].changed.notify_all();
            });
        for (auto &thread : threads) thread.join();
        if (stuck_) divergent(line_, "other threads have ended");
    }

    void barrier(int line) override { meet(all_, launch.threads, line); }

    void warp_barrier(int line) override { meet(warps_[context.thread.x / 32], 32, line); }

  private:
    struct Meeting {
        std::condition_variable changed;
        unsigned waiting = 0;
        unsigned long turn = 0;
    };

    void meet(Meeting &meeting, unsigned expected, int line)
    {
        std::unique_lock<std::mutex> guard(mutex_);
        line_ = line;
        stuck_ = stuck_ || (&meeting == &all_ && running_ < launch.threads);
        const unsigned long turn = meeting.turn;
        if (++meeting.waiting == expected) {
            meeting.waiting = 0;
            ++meeting.turn;
            meeting.changed.notify_all();
        }
        meeting.changed.wait(guard, [&] { return turn != meeting.turn || stuck_; });
    }

    std::mutex mutex_;
    Meeting all_;
    std::vector<Meeting> warps_{launch.threads / 32 + 1};
    unsigned running_ = 0;
    int line_ = 0;
    bool stuck_ = false;
};
using BlockOfThreads = ThreadedBlock;

#else

class Fibers : public Block {
  public:
    Fibers(const Launch &launch, Index at) : Block(launch, at), fibers_(launch.threads) {}

    void run(const std::function<void()> &kernel) override
    {
        kernel_ = &kernel;
        for (unsigned i = 0; i < launch.threads; ++i) start(fibers_[i], i);
        const unsigned warps = (launch.threads + 31) / 32;
        for (unsigned running = launch.threads; running > 0;) {
            for (unsigned w = 0; w < warps; ++w) {
                const unsigned warp = launch.backwards ? warps - 1 - w : w;
                do run_warp(warp);
                while (meets(warp));
            }
            running = check_barrier();
        }
    }

    void barrier(int line) override { wait(line, false); }

    void warp_barrier(int line) override { wait(line, true); }

  private:
    static constexpr size_t STACK = 256 << 10;
    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        Index thread;
        int line = 0; // of the barrier where it waits
        bool in_warp = false; // whether that is the barrier of its warp
        bool ended = false;
        void *fake_stack = nullptr; // AddressSanitizer's
    };

    void wait(int line, bool in_warp)
    {
        current_->line = line;
        current_->in_warp = in_warp;
        leave(*current_);
    }

    unsigned end_of(unsigned warp) const
    {
        const unsigned end = 32 * warp + 32;
        return end < launch.threads ? end : launch.threads;
    }

    // Lets each thread of a warp run to its next barrier, of the block or of the warp.
    void run_warp(unsigned warp)
    {
        const unsigned first = 32 * warp, end = end_of(warp);
        for (unsigned i = first; i < end; ++i) {
            Fiber &fiber = fibers_[launch.backwards ? end - 1 - (i - first) : i];
            if (!fiber.ended) resume(fiber);
        }
    }

    // Whether all threads of a warp wait for each other, at one place.
    bool meets(unsigned warp) const
    {
        const Fiber &first = fibers_[32 * warp];
        unsigned waiting = 0;
        for (unsigned i = 32 * warp; i < end_of(warp); ++i) {
            const Fiber &fiber = fibers_[i];
            if (fiber.ended || !fiber.in_warp) continue;
            ++waiting;
            if (first.ended || !first.in_warp || first.line != fiber.line)
                divergent(fiber.line, "and its warp elsewhere");
        }
        if (waiting != 0 && waiting != 32)
            divergent(first.line, "with " + std::to_string(waiting) + " of the 32 threads of a warp");
        return waiting != 0;
    }

    void start(Fiber &fiber, unsigned thread)
    {
        fiber.stack.reset(new char[STACK]);
        fiber.thread = {thread, 0, 0};
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, &Fibers::body, 0);
    }

    static void body()
    {
        auto *block = static_cast<Fibers *>(context.block);
        block->arrived(nullptr);
        (*block->kernel_)();
        block->current_->ended = true;
        block->leave(*block->current_);
    }

    void resume(Fiber &fiber)
    {
        current_ = &fiber;
        context = {this, fiber.thread};
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(&scheduler_fake_, fiber.stack.get(), STACK);
#endif
        swapcontext(&scheduler_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(scheduler_fake_, nullptr, nullptr);
#endif
    }

    void leave(Fiber &fiber)
    {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(fiber.ended ? nullptr : &fiber.fake_stack, scheduler_stack_, scheduler_size_);
#endif
        swapcontext(&fiber.context, &scheduler_);
        arrived(fiber.fake_stack);
    }

    void arrived(void *fake_stack)
    {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack_, &scheduler_size_);
#else
        (void)fake_stack;
#endif
    }

    // Everybody waits in the same line, or everybody has ended; returns how many run on.
    unsigned check_barrier() const
    {
        unsigned waiting = 0;
        const Fiber *first = nullptr;
        for (const Fiber &fiber : fibers_)
            if (!fiber.ended) {
                ++waiting;
                if (first && first->line != fiber.line)
                    divergent(first->line, "some threads wait in line " + std::to_string(fiber.line));
                first = &fiber;
            }
        if (waiting != 0 && waiting != launch.threads)
            divergent(first->line, std::to_string(launch.threads - waiting) + " threads have ended");
        return waiting;
    }

    std::vector<Fiber> fibers_;
    Fiber *current_ = nullptr;
    ucontext_t scheduler_;
    const std::function<void()> *kernel_ = nullptr;
    const void *scheduler_stack_ = nullptr;
    size_t scheduler_size_ = 0;
    void *scheduler_fake_ = nullptr;
};
using BlockOfThreads = Fibers;

#endif

// ---- launching -------------------------------------------------------------------------------------------------

inline thread_local Index grid_size;

inline void run_grid(const Launch &launch, const std::function<void()> &kernel)
{
    Index at;
    for (at.z = 0; at.z < launch.grid.z; ++at.z)
        for (at.y = 0; at.y < launch.grid.y; ++at.y)
            for (at.x = 0; at.x < launch.grid.x; ++at.x) {
                BlockOfThreads block(launch, at);
                block.run(kernel);
                block.throw_mistake();
            }
}

using Invoke = std::function<void(const Launch &, void **)>;

inline std::map<std::string, Invoke> &kernels()
{
    static std::map<std::string, Invoke> table;
    return table;
}

// Remembers a kernel under its name; an argument is read from where the caller put it, as the driver of a GPU does.
struct Export {
    template <class... Arguments>
    Export(const char *name, void (*kernel)(Arguments...))
    {
        kernels()[name] = [kernel](const Launch &launch, void **values) {
            call(kernel, launch, values, std::index_sequence_for<Arguments...>());
        };
    }

  private:
    template <class... Arguments, size_t... At>
    static void call(void (*kernel)(Arguments...), const Launch &launch, void **values, std::index_sequence<At...>)
    {
        const std::tuple<Arguments...> arguments(*static_cast<std::remove_const_t<Arguments> *>(values[At])...);
        run_grid(launch, [&] { std::apply(kernel, arguments); });
    }
};

// ---- what the threads of a warp do together, and copies that take their time (see mma.cuh) ------------------------

// Shows something to the warp; returns what its 32 threads show. Valid until the warp meets again.
inline const void *const *meet_warp(const void *mine, int line)
{
    Block &block = *context.block;
    block.published[context.thread.x] = mine;
    block.warp_barrier(line);
    return &block.published[context.thread.x / 32 * 32];
}

inline void copy_later(void *to, const void *from)
{
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16)
        context.block->remember("a copy of 16 bytes from or to a misaligned address");
    context.block->copies[context.thread.x].push_back({to, from, false});
}

inline void commit_copies()
{
    for (Copy &copy : context.block->copies[context.thread.x]) copy.committed = true;
}

// Waits for the warp, so that nobody goes on and overwrites what others still read.
inline void leave_warp(int line) { context.block->warp_barrier(line); }

// Makes the copies that this thread has committed.
inline void finish_copies()
{
    std::vector<Copy> later;
    for (const Copy &copy : context.block->copies[context.thread.x]) {
        if (!copy.committed) {
            later.push_back(copy);
        } else if (copy.from) {
            memcpy(copy.to, copy.from, 16);
        } else {
            memset(copy.to, 0, 16);
        }
    }
    context.block->copies[context.thread.x].swap(later);
}

} // namespace shim

// Launches a kernel; returns 0, or 1 and a message. All else is hidden, so that programs of one process share nothing.
extern "C" __attribute__((visibility("default"))) int
shim_launch(const char *name, const unsigned *grid, unsigned threads, int backwards, void **values, char *message,
            size_t size)
{
    try {
        const auto kernel = shim::kernels().find(name);
        if (kernel == shim::kernels().end()) throw shim::Fault{std::string("no kernel of the name ") + name};
        kernel->second({{grid[0], grid[1], grid[2]}, threads, backwards != 0}, values);
        return 0;
    } catch (const shim::Fault &fault) {
        snprintf(message, size, "%s", fault.message.c_str());
        return 1;
    }
}

// ---- the words of the kernels (see portable.cuh) ---------------------------------------------------------------

#define __device__
#define __forceinline__ inline
#define threadIdx (shim::context.thread)
#define blockIdx (shim::context.block->at)
#define __syncthreads() shim::context.block->barrier(__LINE__)
#define SHARED_ARRAY(type, name, extents)                                                                             \
    using name##_type = type extents;                                                                                 \
    name##_type &name = *static_cast<name##_type *>(shim::context.block->shared.array(__LINE__, sizeof(name##_type)))
#define KERNEL(name, threads, blocks) static void name
#define EXPORT(name) static const shim::Export export_##name(#name, &name);
#define UNROLL

inline unsigned bits_of(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float float_of(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
