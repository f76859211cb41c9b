"""Audio and signals, hop by hop: streams, resampling, the short-time Fourier transform."""
