/* A conversion that may change the value: with warnings as errors this does not compile. */
signed char planted(long wide);

signed char planted(long wide)
{
    return wide;
}
