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

class Block {
  public:
    Block(const Launch &launch, Index at) : launch(launch), at(at) {}
    virtual ~Block() = default;
    virtual void run(const std::function<void()> &kernel) = 0;
    virtual void barrier(int line) = 0;

    const Launch launch;
    const Index at;
    SharedMemory shared;

  protected:
    [[noreturn]] void divergent(int line, const std::string &others) const
    {
        throw Fault{"divergent barrier: " + name_of(at) + " waits in line " + std::to_string(line) + ", " + others};
    }
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
                stuck_ = stuck_ || waiting_ > 0;
                changed_.notify_all();
            });
        for (auto &thread : threads) thread.join();
        if (stuck_) divergent(line_, "other threads have ended");
    }

    void barrier(int line) override
    {
        std::unique_lock<std::mutex> guard(mutex_);
        line_ = line;
        stuck_ = stuck_ || running_ < launch.threads;
        const unsigned long turn = turn_;
        if (++waiting_ == running_) {
            waiting_ = 0;
            ++turn_;
            changed_.notify_all();
        }
        changed_.wait(guard, [&] { return turn != turn_ || stuck_; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned running_ = 0, waiting_ = 0;
    unsigned long turn_ = 0;
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
        for (unsigned running = launch.threads; running > 0;) {
            for (unsigned i = 0; i < launch.threads; ++i) {
                Fiber &fiber = fibers_[launch.backwards ? launch.threads - 1 - i : i];
                if (!fiber.ended) resume(fiber);
            }
            running = check_barrier();
        }
    }

    void barrier(int line) override
    {
        current_->line = line;
        leave(*current_);
    }

  private:
    static constexpr size_t STACK = 256 << 10;
    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        Index thread;
        int line = 0; // of the barrier where it waits
        bool ended = false;
        void *fake_stack = nullptr; // AddressSanitizer's
    };

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
            for (at.x = 0; at.x < launch.grid.x; ++at.x) BlockOfThreads(launch, at).run(kernel);
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
